//! Reads MNIST's four IDX files, gzipped or not. Errors name the file and the fault.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Width and height of an image.
pub const SIDE: usize = 28;
/// Pixels of an image, the networks' inputs.
pub const PIXELS: usize = SIDE * SIDE;
/// Number of classes, the networks' outputs.
pub const CLASSES: usize = 10;

const IMAGES_MAGIC: u32 = 0x0803; // unsigned bytes, 3 dimensions
const LABELS_MAGIC: u32 = 0x0801; // unsigned bytes, 1 dimension

/// Images and their labels.
pub struct Digits {
    pixels: Vec<u8>, // [len, SIDE, SIDE]
    labels: Vec<u8>, // [len]
}

impl Digits {
    /// Images `[len, SIDE, SIDE]` with their labels in `0..CLASSES`.
    pub fn new(pixels: Vec<u8>, labels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), PIXELS * labels.len(), "one label an image");
        Self { pixels, labels }
    }

    /// The digits at `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let pixels = indices.iter().flat_map(|&index| self.image(index));
        let labels = indices.iter().map(|&index| self.labels[index]);
        Self::new(pixels.copied().collect(), labels.collect())
    }

    /// The same images with other labels, `[len]`.
    pub fn relabelled(&self, labels: &[i32]) -> Self {
        let labels = labels.iter().map(|&label| label as u8).collect();
        Self::new(self.pixels.clone(), labels)
    }

    /// All labels.
    pub fn labels(&self) -> Vec<i32> {
        self.labels.iter().map(|&label| label.into()).collect()
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The image at `index`, `[SIDE, SIDE]`, 0 for paper and 255 for ink.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * PIXELS..][..PIXELS]
    }

    /// The label at `index`, in `0..CLASSES`.
    pub fn label(&self, index: usize) -> i32 {
        self.labels[index] as i32
    }
}

/// The training digits and the test digits.
pub struct Mnist {
    pub train: Digits,
    pub test: Digits,
}

/// A fault in a file of the data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: no such folder", .0.display())]
    NoFolder(PathBuf),
    #[error("{}: not found in {} (looked for {tried})", .wanted, .folder.display())]
    Missing {
        folder: PathBuf,
        wanted: String,
        tried: String,
    },
    #[error("{}: cannot be read: {reason}", .path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    #[error("{}: the gzip stream ends too early, the file is truncated", .path.display())]
    GzipTruncated { path: PathBuf },
    #[error("{}: the gzip stream is corrupt: {reason}", .path.display())]
    GzipCorrupt { path: PathBuf, reason: io::Error },
    #[error("{}: {got} bytes are too few for an IDX header of {needed}", .path.display())]
    NoHeader {
        path: PathBuf,
        needed: usize,
        got: usize,
    },
    #[error("{}: magic number is {got:#010x}, expected {expected:#010x} ({what})", .path.display())]
    Magic {
        path: PathBuf,
        got: u32,
        expected: u32,
        what: &'static str,
    },
    #[error("{}: images are {rows} x {columns} pixels, expected {SIDE} x {SIDE}", .path.display())]
    ImageSize {
        path: PathBuf,
        rows: u32,
        columns: u32,
    },
    #[error("{}: the header promises {count} {what} ({expected} bytes), the file holds {got} bytes", .path.display())]
    Length {
        path: PathBuf,
        count: u32,
        what: &'static str,
        expected: u64,
        got: u64,
    },
    #[error("{}: holds no {what}", .path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("{}: label {label} at position {index}, expected 0 to 9", .path.display())]
    Label {
        path: PathBuf,
        index: usize,
        label: u8,
    },
    #[error("{}: {labels} labels for the {images} images of {}", .labels_path.display(), .images_path.display())]
    Counts {
        images_path: PathBuf,
        labels_path: PathBuf,
        images: usize,
        labels: usize,
    },
}

/// Reads the training and test digits from `folder`.
///
/// File names are the original ones (`t10k-` for the test files) or those of this repository (`test-`), with or without `.gz`.
pub fn read(folder: &Path) -> Result<Mnist, DataError> {
    if !folder.is_dir() {
        return Err(DataError::NoFolder(folder.to_owned()));
    }
    Ok(Mnist {
        train: read_digits(folder, &["train"])?,
        test: read_digits(folder, &["t10k", "test"])?,
    })
}

fn read_digits(folder: &Path, prefixes: &[&str]) -> Result<Digits, DataError> {
    let images_path = find(folder, prefixes, "images-idx3-ubyte")?;
    let labels_path = find(folder, prefixes, "labels-idx1-ubyte")?;
    let pixels = read_images(&images_path)?;
    let labels = read_labels(&labels_path)?;
    let images = pixels.len() / PIXELS;
    if images != labels.len() {
        return Err(DataError::Counts {
            images_path,
            labels_path,
            images,
            labels: labels.len(),
        });
    }
    Ok(Digits::new(pixels, labels))
}

/// The first of the possible file names that exists.
fn find(folder: &Path, prefixes: &[&str], rest: &str) -> Result<PathBuf, DataError> {
    let names: Vec<String> = prefixes
        .iter()
        .flat_map(|prefix| [format!("{prefix}-{rest}"), format!("{prefix}-{rest}.gz")])
        .collect();
    names
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| DataError::Missing {
            folder: folder.to_owned(),
            wanted: names[0].clone(),
            tried: names.join(", "),
        })
}

/// The pixels of an IDX file of images.
fn read_images(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = read_bytes(path)?;
    let count = header(path, &bytes, 4, IMAGES_MAGIC, "a file of images")?;
    let (rows, columns) = (word(&bytes, 2), word(&bytes, 3));
    if (rows, columns) != (SIDE as u32, SIDE as u32) {
        let path = path.to_owned();
        return Err(DataError::ImageSize {
            path,
            rows,
            columns,
        });
    }
    check_length(path, &bytes, 16, count, PIXELS, "images")?;
    bytes.drain(..16);
    Ok(bytes)
}

/// The labels of an IDX file of labels.
fn read_labels(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = read_bytes(path)?;
    let count = header(path, &bytes, 2, LABELS_MAGIC, "a file of labels")?;
    check_length(path, &bytes, 8, count, 1, "labels")?;
    bytes.drain(..8);
    match bytes.iter().position(|&label| label as usize >= CLASSES) {
        Some(index) => Err(DataError::Label {
            path: path.to_owned(),
            index,
            label: bytes[index],
        }),
        None => Ok(bytes),
    }
}

/// The file's bytes, decompressed if they start with gzip's magic number.
fn read_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let packed = fs::read(path).map_err(|reason| DataError::Unreadable {
        path: path.to_owned(),
        reason,
    })?;
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Ok(packed);
    }
    let mut bytes = Vec::new();
    match MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(reason) => {
            let path = path.to_owned();
            Err(if reason.kind() == io::ErrorKind::UnexpectedEof {
                DataError::GzipTruncated { path }
            } else {
                DataError::GzipCorrupt { path, reason }
            })
        }
    }
}

/// Number `index` of the header, which is big-endian.
fn word(bytes: &[u8], index: usize) -> u32 {
    let at = 4 * index;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Checks a header of `words` numbers and returns its count of items.
fn header(
    path: &Path,
    bytes: &[u8],
    words: usize,
    magic: u32,
    what: &'static str,
) -> Result<u32, DataError> {
    // The magic number is checked first, since it best identifies a file of another kind, even a short one.
    if bytes.len() >= 4 && word(bytes, 0) != magic {
        return Err(DataError::Magic {
            path: path.to_owned(),
            got: word(bytes, 0),
            expected: magic,
            what,
        });
    }
    if bytes.len() < 4 * words {
        return Err(DataError::NoHeader {
            path: path.to_owned(),
            needed: 4 * words,
            got: bytes.len(),
        });
    }
    Ok(word(bytes, 1))
}

/// Checks that header and items fill the file exactly, and that there is at least one item.
fn check_length(
    path: &Path,
    bytes: &[u8],
    header: usize,
    count: u32,
    item: usize,
    what: &'static str,
) -> Result<(), DataError> {
    let path = path.to_owned();
    // In u64, since a corrupt count times the image's size may exceed 32 bits.
    let expected = header as u64 + count as u64 * item as u64;
    let got = bytes.len() as u64;
    if got != expected {
        return Err(DataError::Length {
            path,
            count,
            what,
            expected,
            got,
        });
    }
    if count == 0 {
        return Err(DataError::Empty { path, what });
    }
    Ok(())
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
