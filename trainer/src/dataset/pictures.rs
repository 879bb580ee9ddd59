//! Where the pictures of a set lie, and how they are read: single files, or members of tar files.

use std::{
    collections::HashMap,
    fs::File,
    io::{Cursor, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use spotter_models::Rgb;

use super::{Cause, Problems};
use crate::error::Result;

/// Largest encoded picture; a crop of a person has some ten kilobytes.
const MAX_BYTES: u64 = 32 << 20;
/// Longest side of a picture in pixels.
const MAX_SIDE: u32 = 8192;
/// Most memory that a decoder may take.
const MAX_ALLOC: u64 = 256 << 20;
/// Where published sets keep pictures.
const SUBFOLDER: &str = "imgs";

/// A member of a tar file.
struct Member {
    shard: usize,
    offset: u64,
    length: u64,
}

/// The pictures below a folder.
pub(super) struct Pictures {
    root: PathBuf,
    shards: Vec<(PathBuf, File)>,
    members: HashMap<String, Member>,
}

impl Pictures {
    /// Looks for `shard-*.tar` and indexes their members. A tar file that ends too early is a problem
    /// and gives what comes before.
    pub(super) fn index(root: &Path, problems: &mut Problems) -> Result<Self> {
        let io = |error| spotter_models::Error::io(root)(error);
        let mut paths = Vec::new();
        for entry in root.read_dir().map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("shard-") && name.ends_with(".tar") {
                paths.push(entry.path());
            }
        }
        // The order in which a folder is listed is nobody's promise.
        paths.sort();
        let (mut shards, mut members) = (Vec::new(), HashMap::new());
        for path in paths {
            let file = File::open(&path).map_err(spotter_models::Error::io(&path))?;
            if let Err(error) = index_shard(&file, shards.len(), &mut members) {
                problems.note(Cause::BrokenShard, || format!("{}: {error}", path.display()));
            }
            shards.push((path, file));
        }
        Ok(Self { root: root.to_owned(), shards, members })
    }

    /// Reads and decodes a picture by its path in the annotations.
    pub(super) fn read(&self, file: &str) -> Result<Rgb> {
        let (path, bytes) = self.bytes(file)?;
        decode(&bytes).map_err(|reason| {
            spotter_models::Error::corrupt(path, format!("{reason}; get the picture again")).into()
        })
    }

    /// The encoded picture and the path to call it by.
    fn bytes(&self, file: &str) -> Result<(PathBuf, Vec<u8>)> {
        // Annotations may or may not name the folder `imgs`, and pictures may or may not lie in it.
        let bare = file.strip_prefix("./").unwrap_or(file);
        let bare = bare.strip_prefix("imgs/").unwrap_or(bare);
        let below = format!("{SUBFOLDER}/{bare}");
        for name in [bare, &below] {
            if let Some(member) = self.members.get(name) {
                return self.member(name, member);
            }
        }
        for path in [self.root.join(SUBFOLDER).join(bare), self.root.join(bare)] {
            match File::open(&path) {
                Ok(opened) => return Ok((path.clone(), whole(&path, opened)?)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(spotter_models::Error::io(&path)(error).into()),
            }
        }
        let reason = format!(
            "it is neither below {} nor below its {SUBFOLDER}, nor in a shard-*.tar there",
            self.root.display()
        );
        Err(spotter_models::Error::Unavailable { what: format!("picture {file}"), reason }.into())
    }

    fn member(&self, name: &str, member: &Member) -> Result<(PathBuf, Vec<u8>)> {
        let corrupt = |path: &Path, reason: String| spotter_models::Error::corrupt(path, reason);
        let Some((shard, file)) = self.shards.get(member.shard) else {
            return Err(corrupt(&self.root, format!("{name} is in no tar file")).into());
        };
        if member.length > MAX_BYTES {
            let reason = format!("{name} has {} bytes; {MAX_BYTES} are read", member.length);
            return Err(corrupt(shard, reason).into());
        }
        let mut bytes = vec![0; usize::try_from(member.length).unwrap_or_default()];
        // Reads at a place need no position that threads would have to share.
        file.read_exact_at(&mut bytes, member.offset)
            .map_err(|error| corrupt(shard, format!("{name}: {error}")))?;
        Ok((shard.join(name), bytes))
    }
}

/// Adds the regular files of a tar file to the index; the first of a name wins.
fn index_shard(
    file: &File,
    shard: usize,
    members: &mut HashMap<String, Member>,
) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        members.entry(name).or_insert(Member { shard, offset, length });
    }
    Ok(())
}

fn whole(path: &Path, file: File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(spotter_models::Error::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        let reason = format!("has more than the {MAX_BYTES} bytes that are read");
        return Err(spotter_models::Error::corrupt(path, reason).into());
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Rgb, String> {
    let reader = image::ImageReader::new(Cursor::new(bytes));
    let mut reader = reader.with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    let (width, height) = picture.dimensions();
    Rgb::new(width, height, picture.into_raw()).map_err(|error| error.to_string())
}
