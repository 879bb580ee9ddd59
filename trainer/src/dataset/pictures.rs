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
/// Tar files consist of blocks of so many bytes.
const BLOCK: u64 = 512;
/// Where published sets keep pictures.
pub(super) const SUBFOLDER: &str = "imgs";

/// A member of a tar file.
struct Member {
    shard: usize,
    offset: u64,
    length: u64,
}

impl Member {
    /// Where it ends in the tar file; `None` where no file is so long.
    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }
}

/// The pictures below a folder.
pub(super) struct Pictures {
    root: PathBuf,
    /// Each with its length.
    shards: Vec<(PathBuf, File, u64)>,
    members: HashMap<String, Member>,
    /// Those of a set that was joined of several.
    parts: Vec<Pictures>,
}

/// A picture's path in a set that was joined of several.
pub(super) fn in_part(number: usize, file: &str) -> String {
    format!("{number}/{file}")
}

impl Pictures {
    /// Those of several sets, by [`in_part`]'s paths.
    pub(super) fn join(parts: Vec<Self>) -> Self {
        let root = parts.first().map(|part| part.root.clone()).unwrap_or_default();
        Self { root, shards: vec![], members: HashMap::new(), parts }
    }

    /// The part that a path is in, and the path there.
    fn part<'a>(&self, file: &'a str) -> Option<(&Self, &'a str)> {
        let (number, file) = file.split_once('/')?;
        Some((self.parts.get(number.parse::<usize>().ok()?)?, file))
    }

    /// Looks for `shard-*.tar` and indexes their members. A tar file that ends too early is a problem
    /// and gives what comes before. Only headers are read, and lengths compared.
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
            let length = file.metadata().map_err(spotter_models::Error::io(&path))?.len();
            if let Err(error) = index_shard(&file, length, shards.len(), &mut members) {
                problems.note(Cause::BrokenShard, || {
                    format!("{}: {error}; get the file again", path.display())
                });
            }
            shards.push((path, file, length));
        }
        Ok(Self { root: root.to_owned(), shards, members, parts: vec![] })
    }

    /// Bytes of a picture's file; the cause where nothing of it can be read, as it is nowhere, cut off in a
    /// tar file, or no regular file. It is not opened.
    pub(super) fn length(&self, file: &str) -> Result<u64, Cause> {
        if let Some((part, file)) = self.part(file) {
            return part.length(file);
        }
        let [bare, below] = names(file);
        if let Some(member) = self.members.get(&bare).or_else(|| self.members.get(&below)) {
            let length = self.shards.get(member.shard).map_or(0, |(_, _, length)| *length);
            let is_whole = member.end().is_some_and(|end| end <= length);
            return if is_whole { Ok(member.length) } else { Err(Cause::BrokenPicture) };
        }
        let found = [below, bare].iter().find_map(|name| self.root.join(name).metadata().ok());
        match found {
            Some(found) if found.is_file() => Ok(found.len()),
            Some(_) => Err(Cause::NoFile),
            None => Err(Cause::MissingPicture),
        }
    }

    /// Reads and decodes a picture by its path in the annotations.
    pub(super) fn read(&self, file: &str) -> Result<Rgb> {
        if let Some((part, file)) = self.part(file) {
            return part.read(file);
        }
        let (path, bytes) = self.bytes(file)?;
        decode(&bytes).map_err(|reason| {
            spotter_models::Error::corrupt(path, format!("{reason}; get the picture again")).into()
        })
    }

    /// The encoded picture and the path to call it by.
    fn bytes(&self, file: &str) -> Result<(PathBuf, Vec<u8>)> {
        let [bare, below] = names(file);
        for name in [&bare, &below] {
            if let Some(member) = self.members.get(name) {
                return self.member(name, member);
            }
        }
        for path in [self.root.join(below), self.root.join(bare)] {
            // Opening a pipe would wait for whoever writes into it.
            match path.metadata() {
                Ok(found) if !found.is_file() => {
                    return Err(spotter_models::Error::corrupt(path, "is no regular file").into());
                }
                Ok(_) => {
                    let opened = File::open(&path).map_err(spotter_models::Error::io(&path))?;
                    return Ok((path.clone(), whole(&path, opened)?));
                }
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
        let Some((shard, file, _)) = self.shards.get(member.shard) else {
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

/// The names of a picture without and with the subfolder: annotations may or may not name it, and
/// pictures may or may not lie in it.
fn names(file: &str) -> [String; 2] {
    let bare = file.strip_prefix("./").unwrap_or(file);
    let bare = bare.strip_prefix("imgs/").unwrap_or(bare);
    [bare.to_owned(), format!("{SUBFOLDER}/{bare}")]
}

/// Adds the regular files of a tar file of so many bytes to the index; the first of a name wins.
///
/// # Errors
/// Where it ends within a member, or without the block of zeros that ends a tar file (POSIX.1-2008,
/// pax: two of them; one is tolerated by all readers).
fn index_shard(
    file: &File,
    length: u64,
    shard: usize,
    members: &mut HashMap<String, Member>,
) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(file);
    let mut last = 0u64;
    for entry in archive.entries_with_seek()? {
        // The library's own words quote the bytes that are no header.
        let entry = entry.map_err(|_| {
            std::io::Error::other(match length < last + BLOCK {
                true => format!("was cut: it has {length} bytes and ends within a header"),
                false => format!("is no tar file from byte {last} on: there is no header"),
            })
        })?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let member = Member { shard, offset, length: size };
        let end = member.end().unwrap_or(u64::MAX);
        if entry.header().entry_type().is_file() {
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            members.entry(name).or_insert(member);
        }
        if end > length {
            let name = name.escape_debug();
            let reason =
                format!("was cut: it has {length} bytes, and {name} in it ends at byte {end}");
            return Err(std::io::Error::other(reason));
        }
        last = end.next_multiple_of(BLOCK);
    }
    // Where the cut is between two members, every member that is left is whole.
    if length < last + BLOCK {
        let reason =
            format!("was cut: it has {length} bytes and no end mark after the last picture");
        return Err(std::io::Error::other(reason));
    }
    match first_other_than_zero(file, last, length)? {
        Some(at) => {
            let reason = format!(
                "has data behind its end: the zeros from byte {last} on end a tar file, but byte {at} is \
                 none; pictures there are not found"
            );
            Err(std::io::Error::other(reason))
        }
        None => Ok(()),
    }
}

/// The first byte from a place on that is not zero; a whole tar file has a few blocks of zeros to read there.
fn first_other_than_zero(file: &File, mut from: u64, end: u64) -> std::io::Result<Option<u64>> {
    let mut piece = vec![0; 1 << 16];
    while from < end {
        let count = file.read_at(&mut piece, from)?;
        let read = piece.get(..count).unwrap_or_default();
        if let Some(at) = read.iter().position(|byte| *byte != 0) {
            return Ok(Some(from + at as u64));
        }
        if read.is_empty() {
            return Ok(None);
        }
        from += count as u64;
    }
    Ok(None)
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
