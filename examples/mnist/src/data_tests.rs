use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{PIXELS, read};

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

/// A folder with three training digits and two test digits, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wgpu-distill-mnist-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder.write(TRAIN_IMAGES, &images(3));
        folder.write(TRAIN_LABELS, &labels(&[7, 0, 9]));
        folder.write("t10k-images-idx3-ubyte.gz", &gzip(&images(2)));
        folder.write("test-labels-idx1-ubyte.gz", &gzip(&labels(&[1, 2])));
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    /// The error message for a folder in which one file has the content `bytes`.
    fn complaint(name: &str, bytes: &[u8]) -> String {
        let folder = Self::new();
        folder.write(name, bytes);
        message(&folder.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn message(folder: &Path) -> String {
    match read(folder) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn idx(header: &[u32], items: &[u8]) -> Vec<u8> {
    let header = header.iter().flat_map(|word| word.to_be_bytes());
    header.chain(items.iter().copied()).collect()
}

fn images(count: u32) -> Vec<u8> {
    let pixels = vec![200; count as usize * PIXELS];
    idx(&[0x0803, count, 28, 28], &pixels)
}

fn labels(labels: &[u8]) -> Vec<u8> {
    idx(&[0x0801, labels.len() as u32], labels)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Asserts that the message is one line that contains the file's name and `words`.
fn says(message: &str, file: &str, words: &str) {
    assert!(message.contains(file), "no `{file}` in: {message}");
    assert!(message.contains(words), "no `{words}` in: {message}");
    assert_eq!(message.lines().count(), 1, "more than a line: {message}");
}

#[test]
fn reads_plain_and_gzipped_files_under_either_name() {
    let folder = Folder::new();
    let mnist = read(&folder.0).unwrap();
    assert_eq!((mnist.train.len(), mnist.test.len()), (3, 2));
    assert_eq!((mnist.train.label(2), mnist.test.label(1)), (9, 2));
    assert_eq!(mnist.train.image(2), [200; PIXELS]);
}

#[test]
fn missing_folder_and_file() {
    says(
        &message(Path::new("/no/such/folder")),
        "/no/such/folder",
        "no such folder",
    );
    let folder = Folder::new();
    fs::remove_file(folder.0.join(TRAIN_LABELS)).unwrap();
    says(&message(&folder.0), TRAIN_LABELS, "not found");
}

#[test]
fn truncated_gzip() {
    let whole = gzip(&images(2));
    let file = "t10k-images-idx3-ubyte.gz";
    // Truncated in the header, in the data and in the checksum at the end.
    for length in [5, whole.len() / 2, whole.len() - 3] {
        says(
            &Folder::complaint(file, &whole[..length]),
            file,
            "truncated",
        );
    }
}

#[test]
fn corrupt_gzip() {
    let file = "test-labels-idx1-ubyte.gz";
    let mut bytes = gzip(&labels(&[1, 2]));
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 0xff;
    says(&Folder::complaint(file, &bytes), file, "corrupt");
}

#[test]
fn wrong_magic_number() {
    let message = Folder::complaint(TRAIN_IMAGES, &labels(&[1, 2, 3]));
    says(&message, TRAIN_IMAGES, "0x00000801, expected 0x00000803");
    let message = Folder::complaint(TRAIN_LABELS, b"<!DOCTYPE html>");
    says(&message, TRAIN_LABELS, "magic number");
}

#[test]
fn too_short_for_a_header() {
    says(
        &Folder::complaint(TRAIN_IMAGES, &[]),
        TRAIN_IMAGES,
        "0 bytes are too few",
    );
    let message = Folder::complaint(TRAIN_IMAGES, &images(3)[..10]);
    says(&message, TRAIN_IMAGES, "10 bytes are too few");
}

#[test]
fn length_that_differs_from_the_header() {
    let mut bytes = images(3);
    bytes.pop();
    let message = Folder::complaint(TRAIN_IMAGES, &bytes);
    says(
        &message,
        TRAIN_IMAGES,
        "3 images (2368 bytes), the file holds 2367",
    );
    bytes.extend([0, 0]);
    let message = Folder::complaint(TRAIN_IMAGES, &bytes);
    says(&message, TRAIN_IMAGES, "the file holds 2369");
    // A count whose product with the image's size exceeds 32 bits.
    let huge = idx(&[0x0803, u32::MAX, 28, 28], &[]);
    says(
        &Folder::complaint(TRAIN_IMAGES, &huge),
        TRAIN_IMAGES,
        "4294967295 images",
    );
}

#[test]
fn other_image_size() {
    let small = idx(&[0x0803, 1, 8, 8], &[0; 64]);
    says(
        &Folder::complaint(TRAIN_IMAGES, &small),
        TRAIN_IMAGES,
        "8 x 8",
    );
}

#[test]
fn label_out_of_range() {
    let message = Folder::complaint(TRAIN_LABELS, &labels(&[1, 10, 3]));
    says(&message, TRAIN_LABELS, "label 10 at position 1");
}

#[test]
fn counts_that_differ() {
    let message = Folder::complaint(TRAIN_LABELS, &labels(&[1, 2]));
    says(&message, TRAIN_LABELS, "2 labels for the 3 images");
    says(&message, TRAIN_IMAGES, "2 labels");
}

#[test]
fn no_digits_at_all() {
    says(
        &Folder::complaint(TRAIN_IMAGES, &images(0)),
        TRAIN_IMAGES,
        "no images",
    );
}
