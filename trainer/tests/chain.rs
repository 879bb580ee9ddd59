//! The whole way from verdicts to the bundle that serves, by the lines of the shipped units: `spotter-adapt.service`
//! leaves a candidate, `spotterd.service` verifies it, takes it in and serves by it while it runs.
//!
//! systemd does not run here: each line is run as it is but for the folders, and where this is root as a user of its
//! own, who can write nothing but what the unit gives it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
#![expect(clippy::disallowed_methods, reason = "a deadline of real processes")]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    Room,
    site::{site, staff},
};
use spotter_models::{assets, bundle::Store, signature::SecretKey};

/// How long a daemon may take to serve by what was learnt, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Users and their groups, numbers that nobody has.
const DAEMON: u32 = 64_001;
const ADAPT: u32 = 64_002;

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name);
    fs::read_to_string(path).unwrap()
}

/// The folders of a box, below the room's.
struct Root<'a>(&'a Room);

impl Root<'_> {
    fn path(&self, at: &str) -> PathBuf {
        self.0.path("root").join(at.trim_start_matches('/'))
    }

    fn make(&self, at: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(at);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        give(&path, owner);
        path
    }

    /// The command of a unit's `ExecStart`, as this user, with this root instead of `/`.
    fn command(&self, unit: &str, user: u32, group: u32, options: &str) -> Command {
        let [line] = &values(unit, "ExecStart")[..] else { panic!("one line is expected: {unit}") };
        let programs = Path::new(env!("CARGO_BIN_EXE_spotter-trainer")).parent().unwrap();
        let line = line.replace("${CREDENTIALS_DIRECTORY}", "/run/credentials");
        let words = line.split(' ').flat_map(|word| match word {
            "$SPOTTER_ADAPT_OPTIONS" => options.split(' ').map(str::to_owned).collect(),
            word if word.starts_with("/usr/bin/") => {
                let program = programs.join(word.trim_start_matches("/usr/bin/"));
                assert!(program.is_file(), "{} is not built; run `make build`", program.display());
                vec![program.display().to_string()]
            }
            word if word.starts_with('/') => vec![self.path(word).display().to_string()],
            word => vec![word.to_owned()],
        });
        let mut words: Vec<String> = words.collect();
        if is_root() {
            // May read what is anybody's, as the programs may lie where only root looks; may write what is its own.
            let mut before = vec!["setpriv".to_owned()];
            before.extend([
                format!("--reuid={user}"),
                format!("--regid={user}"),
                format!("--groups={group}"),
            ]);
            let kept = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"];
            before.extend(kept.map(str::to_owned));
            before.push("--no-new-privs".to_owned());
            words.splice(0..0, before);
        }
        let mut command = Command::new(words.remove(0));
        command.args(words).env("XDG_CACHE_HOME", assets::cache_dir().unwrap().parent().unwrap());
        command
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn give(path: &Path, owner: u32) {
    if is_root() {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
}

fn values(unit: &str, key: &str) -> Vec<String> {
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    unit.lines().filter_map(value).collect()
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[track_caller]
fn until(log: &Path, holds: impl Fn(&str) -> bool) {
    let start = Instant::now();
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        if holds(&said) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everything a box needs, and its daemon's configuration.
fn install(room: &Room, root: &Root<'_>) {
    fs::set_permissions(room.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    root.make("var/lib/spotter", DAEMON, 0o750);
    root.make("var/lib/spotter-adapt", ADAPT, 0o750);
    root.make("usr/share/spotter", 0, 0o755);
    let etc = root.make("etc/spotter", 0, 0o755);
    let credentials = root.make("run/credentials", ADAPT, 0o700);
    fs::rename(room.path("pack"), root.path("usr/share/spotter/pack")).unwrap();
    std::os::unix::fs::symlink(room.path("data"), root.path("usr/share/spotter/reference"))
        .unwrap();
    let keys = ["vendor", "site"].map(|name| {
        let key = SecretKey::generate().unwrap();
        fs::write(etc.join(format!("{name}.key")), key.to_text().unwrap()).unwrap();
        fs::write(etc.join(format!("{name}.pub")), key.public().unwrap().to_text().unwrap())
            .unwrap();
        key
    });
    fs::write(credentials.join("site.key"), keys[1].to_text().unwrap()).unwrap();
    let bundle = room.path("bundle");
    let pack = root.path("usr/share/spotter/pack");
    spotter_models::bundle::fold(&pack, &bundle, &[spotter_models::manifest::Precision::F32])
        .unwrap();
    let spotterd = Path::new(env!("CARGO_BIN_EXE_spotter-trainer")).with_file_name("spotterd");
    let run = |arguments: &[&str]| {
        let output = Command::new(&spotterd).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (bundle, key) =
        (bundle.display().to_string(), etc.join("vendor.key").display().to_string());
    let store = root.path("var/lib/spotter/bundles");
    run(&["bundle", "sign", &bundle, "--key", &key]);
    run(&["bundle", "promote", &store.display().to_string(), &bundle]);
    own(&store, DAEMON);
    staff(&root.path("var/lib/spotter/feedback"), |fits| fits);
    own(&root.path("var/lib/spotter/feedback"), DAEMON);
    let at = |path: &str| root.path(path).display().to_string();
    let config = format!(
        "bundle = {:?}\n[bundles]\nsignatures = \"required\"\nvendor_keys = [{:?}]\nsite_keys = [{:?}]\n\
         staging = {:?}\npack = {:?}\nshadow_s = 1\n[metrics]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nbroker = \"embedded\"\n\
         embedded_port = {}\n[decision]\npolicy = \"fixed=0.9\"\n[storage]\nfolder = {:?}\n\
         [[camera]]\nid = \"door\"\nurl = \"test:ball\"\n",
        at("var/lib/spotter/bundles"),
        at("etc/spotter/vendor.pub"),
        at("etc/spotter/site.pub"),
        at("var/lib/spotter-adapt/out"),
        at("usr/share/spotter/pack"),
        free_port(),
        at("var/lib/spotter"),
    );
    fs::write(etc.join("spotterd.toml"), config).unwrap();
}

fn own(folder: &Path, owner: u32) {
    give(folder, owner);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            own(&path, owner);
        } else if !path.is_symlink() {
            give(&path, owner);
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn what_the_night_learnt_serves_without_anybody_doing_anything() {
    let room = site();
    let root = Root(&room);
    install(&room, &root);
    let log = room.path("spotterd.log");
    let (daemon, adapt) = (unit("spotterd.service"), unit("spotter-adapt.service"));
    assert_eq!((values(&daemon, "User"), values(&adapt, "User")).1, ["spotter-adapt"]);
    let mut command = root.command(&daemon, DAEMON, ADAPT, "");
    let file = fs::File::create(&log).unwrap();
    let _daemon = Daemon(command.stdout(Stdio::null()).stderr(file).spawn().unwrap());
    until(&log, |said| said.contains("Watching."));
    let settings = room.path("settings.toml").display().to_string();
    let options = format!("--minutes 10 --threads 1 --precisions f32 --settings {settings}");
    let output = root.command(&adapt, ADAPT, DAEMON, &options).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}{told}", String::from_utf8_lossy(&output.stdout));
    until(&log, |said| said.contains("Another bundle serves."));
    let store = Store::new(root.path("var/lib/spotter/bundles"));
    let current = store.current().unwrap().unwrap();
    let bundle = store.open(current).unwrap();
    assert_eq!(bundle.manifest().parent, store.earlier().unwrap().first().copied());
    let said = fs::read_to_string(&log).unwrap();
    for words in ["What the site learnt is taken in.", "signed by the site's key"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    if is_root() {
        // Who learns can write nothing of the daemon's.
        let line = format!("touch {}", root.path("var/lib/spotter/feedback/x").display());
        let mut touch = Command::new("setpriv");
        touch.args([
            format!("--reuid={ADAPT}"),
            format!("--regid={ADAPT}"),
            format!("--groups={DAEMON}"),
        ]);
        let touched = touch.args(["sh", "-c", &line]).stderr(Stdio::null()).status().unwrap();
        assert!(!touched.success());
    }

    // The next night compares with what serves now; a candidate that nobody signed who may is refused.
    let key = SecretKey::generate().unwrap();
    fs::write(root.path("run/credentials/site.key"), key.to_text().unwrap()).unwrap();
    let eager = fs::read_to_string(&settings).unwrap().replace("seed = 5", "seed = 6");
    fs::write(&settings, eager.replace("blend = 0.9", "blend = 1.0")).unwrap();
    let output = root.command(&adapt, ADAPT, DAEMON, &options).output().unwrap();
    let allowed: Vec<String> = values(&adapt, "SuccessExitStatus");
    let code = output.status.code().unwrap();
    assert!(code == 0 || allowed == [code.to_string()], "{code}");
    if code == 0 {
        until(&log, |said| said.contains("What the site learnt is not taken in."));
        assert_eq!(store.current().unwrap(), Some(current));
    }
}
