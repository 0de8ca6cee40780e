//! The file with the token that an agent asks for; the agent and its clients read it by the same rule.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::tcp::words;

/// Most bytes of the file that are read.
const MAX_BYTES: u64 = 4 << 10;

/// The token: the file's only line. The error says why there is none, but not the file's name.
pub fn read(file: &Path) -> Result<String, String> {
    // A pipe or device could keep this process waiting for ever.
    if !std::fs::metadata(file).map_err(|e| words(&e))?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|e| words(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("exceeds {} KiB", MAX_BYTES >> 10));
    }
    let end = bytes.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
    bytes.truncate(end);
    if bytes.is_empty() {
        return Err("is empty; write a token into it, for example by: openssl rand -hex 32".to_owned());
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| "must hold one line of printable ASCII without spaces".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_of_a_line_is_the_line_and_of_anything_else_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let read_of = |content: &[u8]| {
            let file = dir.path().join("token");
            std::fs::write(&file, content).unwrap();
            read(&file)
        };
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            assert_eq!(read_of(content.as_bytes()), Ok("s3cret".to_owned()));
        }
        let empty = "is empty; write a token into it, for example by: openssl rand -hex 32";
        assert_eq!(read_of(b"\n\n"), Err(empty.to_owned()));
        for content in [&b"two words"[..], b"two\nlines\n", b"\xff", b"\0"] {
            assert_eq!(read_of(content), Err("must hold one line of printable ASCII without spaces".to_owned()));
        }
        assert_eq!(read_of(&[b'x'; 5000]), Err("exceeds 4 KiB".to_owned()));
        assert_eq!(read(dir.path()), Err("is no regular file".to_owned()));
        assert_eq!(read(&dir.path().join("none")), Err("no such file or directory".to_owned()));
    }
}
