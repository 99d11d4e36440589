//! Files of a file system that appear as a whole, and stay.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file beside its place and renames it; with `sync`, its bytes are on the disk before.
///
/// # Errors
/// Those of the file system.
pub fn replace(folder: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    let mut out = File::create(&new)?;
    out.write_all(bytes)?;
    if sync {
        out.sync_all()?;
    }
    fs::rename(new, folder.join(name))
}

/// Makes sure that the entries of a directory are on the disk.
///
/// # Errors
/// Those of the file system.
pub fn sync_dir(directory: Option<&Path>) -> io::Result<()> {
    let named = directory.filter(|directory| !directory.as_os_str().is_empty());
    File::open(named.unwrap_or(Path::new(".")))?.sync_all()
}
