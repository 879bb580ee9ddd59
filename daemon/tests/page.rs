//! The page over a real socket: who gets in, what every answer says, what is shown and how much.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rand::{SeedableRng, rngs::SmallRng};
use spotterd::{
    alert::{AlertId, state::StateName},
    frame::CameraId,
    page::{
        AlertShown, Board, CameraShown, CameraState, Health, MAX_ALERTS, MAX_PICTURE_BYTES,
        MAX_SIGHTINGS, Page, Settings,
    },
    sighting::{Event, Ids, Phrase, Sighting},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0 as good as a picture";

struct Rig {
    page: Page,
    board: Arc<Board>,
    _folder: tempfile::TempDir,
}

fn settings(folder: &tempfile::TempDir, listen: &str, token: &str) -> Settings {
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, token).unwrap();
    Settings { listen: listen.parse().unwrap(), token_file }
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let board = Arc::new(Board::new());
    let settings = settings(&folder, "127.0.0.1:0", &format!("{TOKEN}\n"));
    let page = Page::start(settings, board.clone(), None).unwrap();
    Rig { page, board, _folder: folder }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn connect(address: SocketAddr, request: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: page\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
    .unwrap();
    stream
}

fn ask(address: SocketAddr, request: &str, headers: &str, body: &str) -> Answer {
    let mut bytes = Vec::new();
    connect(address, request, headers, body).read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

/// Logs in by form and gives the header with the cookie.
fn log_in(address: SocketAddr) -> String {
    let answer = ask(address, "POST /login", "", &format!("token={TOKEN}"));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
}

fn sightings(count: usize) -> Vec<Sighting> {
    let mut ids = Ids::new(SmallRng::seed_from_u64(1));
    let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    (0..count)
        .map(|_| Sighting {
            schema: 1,
            id: ids.next(at),
            event: Event::New,
            seq: 1,
            alert: AlertId::new("red-coat").unwrap(),
            alert_revision: Some(1),
            camera: CameraId::new("entrance").unwrap(),
            track: 1,
            at,
            first_seen: at,
            score: 0.41,
            threshold: 0.37,
            false_alarm_probability: None,
            crops: 1,
            bbox: [0.1, 0.1, 0.1, 0.4],
            phrases: vec![Phrase { text: "red coat".to_owned(), score: 0.44 }],
            bundle: "b".to_owned(),
            suppressed: 0,
            late: false,
            clock_synced: true,
        })
        .collect()
}

#[test]
fn every_route_has_the_headers_and_lets_in_whom_it_should() {
    let rig = rig();
    let sighting = &sightings(1)[0];
    rig.board.sighting(sighting, Some(JPEG.to_vec()));
    rig.board.health(Health { ready: true, ..Health::default() });
    let picture = format!("GET /sightings/{}.jpg", sighting.id);
    let table = [
        // Route, without a login, with one.
        ("GET /", 303, 200),
        (picture.as_str(), 401, 200),
        ("GET /sightings/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpg", 401, 404),
        ("GET /sightings/..%2f..%2fetc%2fpasswd", 401, 404),
        ("GET /metrics", 401, 404),
        ("GET /login", 200, 200),
        ("GET /login.js", 200, 200),
        ("POST /login", 401, 401),
        ("POST /logout", 303, 303),
        ("GET /healthz", 200, 200),
        ("GET /readyz", 200, 200),
        ("GET /page.css", 200, 200),
        ("GET /page.js", 200, 200),
        ("GET /icon.svg", 200, 200),
        ("GET /nothing", 404, 404),
        ("POST /", 303, 405),
    ];
    let cookie = log_in(rig.page.address());
    for (route, stranger, known) in table {
        for (headers, status) in [("", stranger), (cookie.as_str(), known)] {
            let answer = ask(rig.page.address(), route, headers, "");
            assert_eq!(answer.status, status, "{route} {headers:?}");
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{route}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{route}");
        }
    }
    let answer = ask(rig.page.address(), &picture, &bearer(), "");
    assert_eq!((answer.header("content-type"), &*answer.body), (Some("image/jpeg"), JPEG));
    // Never in a URL.
    let in_url = ask(rig.page.address(), &format!("GET /?token={TOKEN}"), "", "");
    assert_eq!(in_url.status, 303);
    let too_long = ask(rig.page.address(), "POST /login", "", &"x".repeat(4096));
    assert_eq!(too_long.status, 413);
}

#[test]
fn wrong_tokens_are_few() {
    let rig = rig();
    let address = rig.page.address();
    let cookie = log_in(address);
    let mut statuses = Vec::new();
    for count in 0..8 {
        // By either way: they share the limit.
        let answer = match count % 2 {
            0 => ask(address, "POST /login", "", "token=0123456789abcdef0123456789abcdeF"),
            _ => ask(address, "GET /metrics", "Authorization: Bearer x\r\n", ""),
        };
        if answer.status == 429 {
            assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() <= 11);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
    // Who is in stays in, and monitors are not held up.
    assert_eq!(ask(address, "GET /", &cookie, "").status, 200);
    assert_eq!(ask(address, "GET /healthz", "", "").status, 200);
}

#[test]
fn health_is_one_word() {
    let rig = rig();
    let get = |route: &str| {
        let answer = ask(rig.page.address(), route, "", "");
        (answer.status, answer.text())
    };
    assert_eq!(get("GET /readyz"), (503, "starting\n".to_owned()));
    assert_eq!(get("GET /healthz"), (200, "ok\n".to_owned()));
    rig.board.health(Health { ready: true, stalled: vec!["embed".to_owned()], broker_away: None });
    assert_eq!(get("GET /readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get("GET /healthz"), (503, "stalled\n".to_owned()));
}

#[test]
fn a_sighting_comes_as_an_event() {
    let rig = rig();
    assert_eq!(ask(rig.page.address(), "GET /events", "", "").status, 401);
    let stream = connect(rig.page.address(), "GET /events", &bearer(), "");
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // The first event says that the subscription stands.
    assert!(lines.any(|line| line == "event: changed"));
    let sighting = &sightings(1)[0];
    rig.board.sighting(sighting, Some(JPEG.to_vec()));
    assert!(lines.any(|line| line == "event: sighting"));
    let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned())).unwrap();
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["id"], sighting.id.to_string());
    assert_eq!((&data["event"], &data["camera"]), (&"new".into(), &"entrance".into()));
    assert_eq!(data["picture"], format!("/sightings/{}.jpg", sighting.id));
    // Does not wait for who still watches.
    rig.page.stop();
}

#[test]
fn hostile_texts_stay_texts() {
    let rig = rig();
    let hostile = "</bdi><script>alert(1)</script><img src=x onerror='a()'>\" & \u{202e}";
    let text = || hostile.to_owned();
    rig.board.cameras(vec![CameraShown {
        name: text(),
        state: CameraState::Down,
        reason: Some(text()),
        fps: None,
        since: None,
    }]);
    rig.board.alerts(vec![AlertShown {
        id: text(),
        text: text(),
        state: StateName::Rejected,
        reason: Some(text()),
        warnings: vec![text()],
        expires_at: None,
    }]);
    rig.board.health(Health { ready: true, stalled: vec![text()], broker_away: Some(text()) });
    let mut sighting = sightings(1).remove(0);
    sighting.phrases[0].text = text();
    rig.board.sighting(&sighting, None);
    let html = ask(rig.page.address(), "GET /", &bearer(), "").text();
    assert_eq!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 9);
    assert_eq!(html.matches("<script").count(), 1, "only our own");
    assert!(!html.contains("<img") && !html.contains("onerror='") && !html.contains('\u{202e}'));
    assert!(html.contains(r#"<time datetime="2026-11-24T12:00:00"#));
}

/// Whoever reads does not lose the place, and a better view is not hidden by the first one, which a
/// browser has under the same name.
#[test]
fn what_is_told_later_moves_nothing_and_brings_its_picture() {
    let rig = rig();
    let all = sightings(2);
    all.iter().for_each(|sighting| rig.board.sighting(sighting, Some(JPEG.to_vec())));
    let pictures = || {
        let html = ask(rig.page.address(), "GET /", &bearer(), "").text();
        let sources = html.split("<img src=\"").skip(1);
        sources.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let [older, newer] = [0, 1].map(|index| format!("/sightings/{}.jpg", all[index].id));
    assert_eq!(pictures(), [format!("{newer}?1"), format!("{older}?1")]);
    let mut later = all[0].clone();
    (later.event, later.seq) = (Event::Update, 3);
    rig.board.sighting(&later, Some(JPEG.to_vec()));
    assert_eq!(pictures(), [format!("{newer}?1"), format!("{older}?3")]);
    // The end brings no picture, so the browser's own still counts.
    (later.event, later.seq) = (Event::End, 4);
    rig.board.sighting(&later, None);
    assert_eq!(pictures(), [format!("{newer}?1"), format!("{older}?3")]);
}

#[test]
fn what_is_kept_is_bounded() {
    let board = Board::new();
    let all = sightings(MAX_SIGHTINGS + 50);
    let large = vec![0; MAX_PICTURE_BYTES / 10];
    all.iter().for_each(|sighting| board.sighting(sighting, Some(large.clone())));
    let shown = board.snapshot().sightings;
    assert_eq!(shown.len(), MAX_SIGHTINGS);
    assert_eq!(shown[0].id, all.last().unwrap().id.to_string());
    let with_picture: Vec<_> = shown.iter().map(|shown| shown.picture.is_some()).collect();
    assert_eq!(with_picture.iter().filter(|has| **has).count(), 10, "the budget, no less");
    assert!(with_picture[..10].iter().all(|has| *has), "the newest");

    // An end takes its beginning's place, and keeps the picture.
    let mut end = all.last().unwrap().clone();
    end.event = Event::End;
    board.sighting(&end, None);
    let shown = board.snapshot().sightings;
    assert_eq!((shown.len(), shown[0].sighting.event), (MAX_SIGHTINGS, Event::End));
    assert_eq!(shown.iter().filter(|shown| shown.picture.is_some()).count(), 10);
    let too_large = vec![0; MAX_PICTURE_BYTES + 1];
    board.sighting(&end, Some(too_large));
    let shown = board.snapshot().sightings;
    assert_eq!(shown.iter().filter(|shown| shown.picture.is_some()).count(), 10);

    let alert = AlertShown {
        id: "a".to_owned(),
        text: "a person".to_owned(),
        state: StateName::Armed,
        reason: None,
        warnings: Vec::new(),
        expires_at: None,
    };
    board.alerts(vec![alert; 10_000]);
    let shown = board.snapshot();
    assert_eq!((shown.alerts.len(), shown.alerts_total), (MAX_ALERTS, 10_000));
}

#[test]
fn an_open_address_and_a_weak_token_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let start = |listen: &str, token: &str| {
        let result = Page::start(settings(&folder, listen, token), Arc::new(Board::new()), None);
        result.map(drop).unwrap_err().to_string()
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        assert!(start(listen, TOKEN).contains("must be a loopback address"), "{listen}");
    }
    let (long, two) = ("a".repeat(257), format!("{TOKEN}\n{TOKEN}"));
    for token in ["", "short", "with spaces and more than enough", &long, &two] {
        let error = start("127.0.0.1:0", token);
        assert!(error.contains("openssl rand"), "{error}");
        assert!(token.is_empty() || !error.contains(token));
    }
}
