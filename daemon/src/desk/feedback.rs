//! What staff say of sightings: kept before the broker is told that it was taken.

use serde_json::json;

use super::{Shared, requests::reply};
use crate::{
    mqtt::{Inbound, Received, Response},
    outbox::Class,
};

impl Shared {
    /// Takes what is said in these messages, in their order, and answers where an answer is wanted. What a
    /// broker had retained nobody says now.
    pub(super) fn hear(&self, received: &[&Received]) {
        let said = received.iter().filter(|each| each.topic == Inbound::Feedback && !each.retained);
        for message in said {
            let topic = match &message.response {
                Response::Forbidden(topic) => {
                    tracing::warn!(topic, "Feedback wants its answer where no device may write.");
                    continue;
                }
                Response::None => None,
                Response::To(topic) => Some(topic),
            };
            let answer = self.intake.take(&message.payload);
            let Some((mut answer, topic)) = answer.zip(topic) else { continue };
            answer["schema"] = json!(1);
            answer["device"] = json!(self.device);
            answer["pictures"] = json!(0);
            let payload = answer.to_string().into_bytes();
            let answer = reply(topic, &message.correlation, Class::Event, payload);
            if let Err(error) = self.outbox.commit(&[answer]) {
                tracing::error!(%error, "Feedback was not answered.");
            }
        }
    }
}
