//! A question to all devices of a site, and what they answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::Rng;
use rumqttc::{
    PublishOptions,
    mqttbytes::{
        QoS,
        v5::{Publish, PublishProperties, SubscribeFilter},
    },
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Board, Fault, Session, Site, session::Happened};

/// What a device says to a question.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The answer, a JSON object.
    pub answer: Value,
    /// Pictures by the number of their track.
    pub pictures: BTreeMap<u64, Vec<u8>>,
}

impl Reply {
    /// Whether all pictures came that the answer announces.
    fn is_whole(&self) -> bool {
        let announced = self.answer["pictures"].as_u64().unwrap_or(0);
        !self.answer.is_null() && self.pictures.len() as u64 >= announced
    }
}

/// Answers by device.
pub type Replies = BTreeMap<String, Reply>;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// What an alert would bring.
    Preview,
    /// Who was here that fits.
    Search,
    /// What became of a sighting: only the device whose it is answers, unless it cannot be read.
    Feedback,
    /// That one device does something.
    Command(&'a str),
}

impl Question<'_> {
    fn topic(self, site: &Site) -> String {
        match self {
            Question::Preview => site.preview(),
            Question::Search => site.search(),
            Question::Feedback => site.feedback(),
            Question::Command(device) => site.command(device),
        }
    }

    fn is_for(self, device: &str) -> bool {
        !matches!(self, Question::Command(only) if only != device)
    }
}

impl Session {
    /// Asks all devices, or tells one, and waits until each that is meant and online has answered, or the
    /// time is over. Also gives the devices that are online and did not.
    ///
    /// # Errors
    /// [`Fault::Broker`] where the connection breaks or the broker does not allow it.
    pub async fn ask(
        &mut self,
        question: Question<'_>,
        payload: Vec<u8>,
        wait: Duration,
    ) -> Result<(Replies, BTreeSet<String>), Fault> {
        let mut board = Board::default();
        let statuses = self.site().statuses();
        self.read(vec![statuses], &mut board).await?;
        let online = board
            .devices
            .iter()
            .filter(|(name, device)| device.is_online() && question.is_for(name));
        let mut silent: BTreeSet<String> = online.map(|(name, _)| name.clone()).collect();
        let topic = self.reply_topic();
        let filter = SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce);
        self.subscribe(vec![filter], &mut |_| {}).await?;
        let number: [u8; 8] = rand::rng().random();
        let properties = PublishProperties {
            response_topic: Some(topic.clone()),
            correlation_data: Some(number.to_vec().into()),
            content_type: Some("application/json".into()),
            ..PublishProperties::default()
        };
        let asked = question.topic(self.site());
        let options = PublishOptions::at_least_once().properties(properties);
        self.client
            .try_publish_tracked(asked, payload, options)
            .map_err(|error| self.fault(error.to_string()))?;
        let mut replies = Replies::new();
        let until = Instant::now() + wait;
        while !silent.is_empty() {
            let Ok(happened) = timeout_at(until, self.happened.recv()).await else { break };
            match happened {
                Some(Happened::Message(publish)) if publish.topic == topic.as_bytes() => {
                    take(&mut replies, &publish, &number);
                }
                Some(Happened::Message(_) | Happened::Back { .. }) => {}
                Some(Happened::Lost(down)) => return Err(self.fault(down.to_string())),
                None => return Err(self.fault("the connection ended")),
            }
            silent.retain(|device| !replies.get(device).is_some_and(Reply::is_whole));
            if question == Question::Feedback && !replies.is_empty() {
                break;
            }
        }
        Ok((replies, silent))
    }
}

fn take(replies: &mut Replies, publish: &Publish, number: &[u8]) {
    let Some(properties) = &publish.properties else { return };
    if properties.correlation_data.as_deref() != Some(number) {
        return;
    }
    if properties.content_type.as_deref() == Some("image/jpeg") {
        let value = |wanted: &str| {
            let mut all = properties.user_properties.iter();
            all.find(|(name, _)| name == wanted).map(|(_, value)| value)
        };
        let id = value("id").and_then(|id| id.parse().ok());
        if let (Some(device), Some(id)) = (value("device"), id) {
            let reply = replies.entry(device.clone()).or_default();
            reply.pictures.insert(id, publish.payload.to_vec());
        }
        return;
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&publish.payload) else { return };
    if let Some(device) = answer["device"].as_str().map(str::to_owned) {
        replies.entry(device).or_default().answer = answer;
    }
}
