//! The demo's folder: configuration, page token, bundle, state and pictures.

use std::{
    fs,
    io::{ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rand::Rng;
use spotter_models::{
    assets,
    bundle::{Bundle, fold},
    manifest::Precision,
};

use super::Args;
use crate::{
    config::Config,
    error::{Error, Result},
};

/// The scene that comes with a checkout.
pub(super) const STREET: &str = "tests/data/scenes/street-a.mp4";
/// The first line of the configuration, by which a folder of a demo is known again.
const MARK: &str = "# Written by `spotterd demo`, which writes it anew each time.";
/// What the demo's bundle is folded from, in a checkout.
pub(super) const PACK: &str = "models/demo";
/// Three standard deviations above what the text scores by chance; nothing was tuned to the scene. Not the
/// usual budget: a clip that begins again and again has some eight persons pass twenty thousand times a
/// day, each text's own person among them, and no site's past is like that.
const POLICY: &str = "zscore=3";
/// For a bundle without a cohort, of which nobody knows what a text scores by chance.
const POLICY_WITHOUT_COHORT: &str = "fixed=0.3";
/// A token of 256 bits.
const TOKEN_BYTES: usize = 32;

/// The folder, prepared.
pub(super) struct Folder {
    root: PathBuf,
    has_cohort: bool,
    /// Held as long as the demo runs, so that a second one does not take its state away.
    _lock: fs::File,
}

impl Folder {
    /// Makes the folder and everything that the daemon needs in it.
    ///
    /// # Errors
    /// [`Error::Config`] where an argument names nothing that fits, or the folder holds something
    /// else than a demo; [`Error::Io`] where it cannot be written; [`Error::Model`] where no bundle
    /// can be made.
    pub(super) fn prepare(args: &Args) -> Result<Self> {
        let video = recording(&args.video)?;
        let root = root(args.out.as_deref())?;
        let lock = clear(&root)?;
        let mut folder = Self { root, has_cohort: true, _lock: lock };
        fs::create_dir_all(folder.pictures()).map_err(Error::io(folder.pictures()))?;
        let bundle = match &args.bundle {
            Some(bundle) => absolute(bundle)?,
            None => folder.fold(&args.pack)?,
        };
        folder.has_cohort = Bundle::open(&bundle)?.manifest().cohort.is_some();
        folder.write_token()?;
        let text = folder.configuration(&video, &bundle, args)?;
        let path = folder.config();
        fs::write(&path, text).map_err(Error::io(&path))?;
        Ok(folder)
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.root.join("spotterd.toml")
    }

    /// Where the pictures of the persons found go.
    pub(super) fn pictures(&self) -> PathBuf {
        self.root.join("pictures")
    }

    fn token(&self) -> PathBuf {
        self.root.join("page.token")
    }

    /// The demo's own bundle, folded from what the checkout holds: less than a second's work.
    fn fold(&self, pack: &Path) -> Result<PathBuf> {
        if !pack.is_dir() {
            let reason = "is not below this folder: start the demo in a checkout of Spotter, or name a \
                          bundle with --bundle FOLDER";
            return Err(Error::config(format!("--pack {}", pack.display()), reason));
        }
        let bundle = self.root.join("bundle");
        remove(&bundle)?;
        fold(pack, &bundle, &[Precision::F32])?;
        Ok(bundle)
    }

    /// A new token, for this user's eyes only.
    fn write_token(&self) -> Result<()> {
        let path = self.token();
        let bytes: [u8; TOKEN_BYTES] = rand::rng().random();
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{token}\n").as_bytes()))
            .map_err(Error::io(&path))
    }

    fn configuration(&self, video: &Path, bundle: &Path, args: &Args) -> Result<String> {
        let quoted = |path: &Path| Ok::<_, Error>(toml::Value::from(utf8(path)?).to_string());
        let url = toml::Value::from(format!("file:{}", utf8(video)?)).to_string();
        let policy = if self.has_cohort { POLICY } else { POLICY_WITHOUT_COHORT };
        let policy = format!("\n[decision]\npolicy = \"{policy}\"\n");
        let library = match &args.library {
            Some(library) => format!("\n[inference]\nlibrary = {}\n", quoted(&absolute(library)?)?),
            None => String::new(),
        };
        let id = if args.video == Path::new(STREET) { "street" } else { "recording" };
        let bundle = quoted(bundle)?;
        let (state, token) = (quoted(&self.root.join("state"))?, quoted(&self.token())?);
        let (broker, page, metrics) = (free(1883)?, free(8480)?, free(9464)?);
        Ok(format!(
            "{MARK}\n# Every other setting is described in configs/spotterd.toml.\n\
             bundle = {bundle}\nsite = \"demo\"\ndevice = \"box\"\n\n\
             [mqtt]\nbroker = \"embedded\"\nembedded_port = {broker}\n{policy}\n\
             [storage]\nfolder = {state}\n{library}\n\
             [page]\nlisten = \"127.0.0.1:{page}\"\ntoken_file = {token}\n\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\n\
             [[camera]]\nid = \"{id}\"\nurl = {url}\nrepeat = true\n"
        ))
    }

    /// What runs where, with the way into the page.
    ///
    /// # Errors
    /// [`Error::Io`] where the token cannot be read.
    pub(super) fn introduction(&self, config: &Config) -> Result<String> {
        let path = self.token();
        let token = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let mut text = String::new();
        text += &format!(
            "  page           http://{}/login#{}\n  \
             broker         mqtt://127.0.0.1:{}\n  \
             metrics        http://{}/metrics\n  \
             configuration  {}\n  \
             pictures       {}\n\n\
             The page's address logs you in; whoever else has it can look, too. All of it is on this \
             machine only.\n",
            config.page.listen,
            token.trim_end(),
            config.mqtt.embedded_port,
            config.metrics.listen,
            self.config().display(),
            self.pictures().display(),
        );
        Ok(text)
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let reason = "has a name that is no UTF-8, which a configuration cannot hold";
        Error::config(path.display().to_string(), reason)
    })
}

fn recording(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return absolute(path);
    }
    let reason = match path == Path::new(STREET) {
        true => {
            "is not below this folder: start the demo in a checkout of Spotter, or name a \
                 recording with --video FILE"
        }
        false => "is no file",
    };
    Err(Error::config(format!("--video {}", path.display()), reason))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(Error::io(path))
}

fn root(out: Option<&Path>) -> Result<PathBuf> {
    let root = match out {
        Some(out) => out.to_path_buf(),
        None => assets::cache_dir().map(|cache| cache.join("demo")).ok_or_else(|| {
            let reason = "there is no cache folder, as neither XDG_CACHE_HOME nor HOME is set: name \
                          a folder";
            Error::config("--out", reason)
        })?,
    };
    fs::create_dir_all(&root).map_err(Error::io(&root))?;
    absolute(&root)
}

/// Removes what an earlier demo left, the bundle excepted, and locks the folder. One that holds
/// anything else, or whose demo still runs, is not touched.
fn clear(root: &Path) -> Result<fs::File> {
    let config = root.join("spotterd.toml");
    let is_demo = fs::read_to_string(&config).is_ok_and(|text| text.starts_with(MARK));
    let is_empty = fs::read_dir(root).map_err(Error::io(root))?.next().is_none();
    let refuse = |reason: &str| Error::config(format!("--out {}", root.display()), reason);
    if !is_demo && !is_empty {
        return Err(refuse("holds something else than a demo: name an empty or a new folder"));
    }
    if is_empty {
        // Before anything else, so that a run that is broken off is known again.
        fs::write(&config, format!("{MARK}\n")).map_err(Error::io(&config))?;
    }
    let path = root.join("lock");
    let lock = fs::File::create(&path).map_err(Error::io(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Err(refuse("a demo is running in this folder: end it, or name another folder"));
        }
        Err(fs::TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
    }
    for name in ["state", "pictures", "page.token"] {
        remove(&root.join(name))?;
    }
    Ok(lock)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// The usual port, or any other where that is taken.
fn free(usual: u16) -> Result<u16> {
    let bind = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = bind(usual).or_else(|_| bind(0)).map_err(Error::io("a port of this machine"))?;
    listener.local_addr().map(|address| address.port()).map_err(Error::io("a port of this machine"))
}
