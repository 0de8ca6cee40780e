//! The uncompressed kernel out of a `bzImage`: emulation decompresses it far more slowly than the host does.
//!
//! The boot protocol's header says where the payload is and how long; its magic number says how it was compressed.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Offsets in the boot header: sectors of set-up code, its magic, payload offset and length (protocol 2.08 and newer).
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// Writes the kernel within `vmlinuz` to `vmlinux`, in one step: a broken run leaves no half of it.
pub fn unpack(vmlinuz: &Path, vmlinux: &Path) -> Result<()> {
    let image = fs::read(vmlinuz).with_context(|| format!("cannot read {}", vmlinuz.display()))?;
    let payload = payload(&image).with_context(|| format!("{} is not a bzImage", vmlinuz.display()))?;
    // The build appends the uncompressed size.
    let (compressed, size) = payload.split_last_chunk::<4>().context("the payload is empty")?;
    let packed = vmlinux.with_extension("packed");
    let unpacked = vmlinux.with_extension("unpacked");
    fs::write(&packed, compressed)?;
    let [program, args @ ..] = tool(compressed)? else { unreachable!("every entry names a program") };
    let status = Command::new(program)
        .args(args)
        .stdin(File::open(&packed)?)
        .stdout(File::create(&unpacked)?)
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("cannot run `{program}`; install the package of that name"))?;
    ensure!(status.success(), "`{program}` failed ({status}) on the kernel's payload");
    let length = fs::metadata(&unpacked)?.len();
    let expected = u64::from(u32::from_le_bytes(*size));
    ensure!(length == expected, "`{program}` gave {length} bytes of kernel, expected {expected}");
    fs::remove_file(&packed)?;
    fs::rename(&unpacked, vmlinux)?;
    Ok(())
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    // Zero means four, for the sake of very old loaders.
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + word(PAYLOAD_OFFSET)?;
    image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
}

/// The command that decompresses what begins like `payload`.
fn tool(payload: &[u8]) -> Result<&'static [&'static str]> {
    let tools: [(&[u8], &[&str]); 4] = [
        (&[0x1f, 0x8b], &["gzip", "-dc"]),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], &["xz", "-dc"]),
        (&[0x28, 0xb5, 0x2f, 0xfd], &["zstd", "-dcq"]),
        (&[0x02, 0x21, 0x4c, 0x18], &["lz4", "-dcq"]),
    ];
    match tools.iter().find(|(magic, _)| payload.starts_with(magic)) {
        Some((_, tool)) => Ok(tool),
        None => bail!("the kernel is compressed in an unknown way: {:02x?}", payload.get(..6).unwrap_or(payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).expect("small");
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend(payload);
        image.extend(b"beyond");
        image
    }

    #[test]
    fn payload_is_found_by_the_header() {
        assert_eq!(payload(&bzimage(b"kernel")), Some(b"kernel".as_slice()));
    }

    #[test]
    fn payload_of_a_cut_image_is_none() {
        let image = bzimage(b"kernel");
        for length in 0..image.len() - b"beyond".len() {
            assert_eq!(payload(&image[..length]), None, "cut to {length}");
        }
    }

    #[test]
    fn tool_of_an_unknown_compression_is_an_error() {
        assert_eq!(tool(&[0x02, 0x21, 0x4c, 0x18, 0]).expect("lz4 is known")[0], "lz4");
        assert!(tool(b"BZh").is_err());
    }
}
