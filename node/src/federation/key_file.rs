//! The file of the key that signs for the brain, where that is not its first any more.

use std::fs;
use std::io;
use std::path::PathBuf;

use cairn_sharing::SharingKey;
use zeroize::Zeroizing;

use crate::data_folder::write_private;

/// The file: 64 hexadecimal digits, readable by its owner alone.
pub struct KeyFile(pub PathBuf);

impl SharingKey for KeyFile {
    fn load(&self) -> io::Result<Option<Zeroizing<[u8; 32]>>> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut *seed).map_err(|_| {
            let reason = format!("{} is not a key of 64 hexadecimal digits", self.0.display());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        Ok(Some(seed))
    }

    fn keep(&self, seed: &[u8; 32]) -> io::Result<()> {
        let text = Zeroizing::new(hex::encode(seed));
        // It says the file as well.
        write_private(&self.0, text.as_bytes()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_kept_and_what_is_none_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile(folder.path().join("sharing.key"));
        assert!(file.load().expect("read").is_none());
        for seed in [[7; 32], [8; 32]] {
            file.keep(&seed).expect("kept");
            assert_eq!(*file.load().expect("read").expect("a key"), seed);
        }
        fs::write(&file.0, "zz").expect("written");
        assert_eq!(file.load().map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
    }
}
