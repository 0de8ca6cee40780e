//! Prometheus' node_exporter: two lines of a long text, which is read as a stream and never held.

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::{Response, StatusCode};
use jiff::Timestamp;

use super::believe::{self, Unbelievable};
use super::{Deadline, MemoryError, http};
use crate::core::memory::sample::Sample;

/// What is asked for: one collector, so that the exporter does not gather all the others each time. What does not know
/// the parameter answers with everything.
pub(super) const PATH: &str = "/metrics?collect%5B%5D=meminfo";

/// Most bytes of the text that are read.
const MAX_BYTES: usize = 2 << 20;
/// Longest line that can be one of the two.
const MAX_LINE_BYTES: usize = 256;
const TOTAL: &str = "node_memory_MemTotal_bytes";
const AVAILABLE: &str = "node_memory_MemAvailable_bytes";

/// Reads until both lines were seen.
pub(super) async fn sample<B>(response: Response<B>, deadline: Deadline) -> Result<Sample, MemoryError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let status = response.status();
    if status != StatusCode::OK {
        let redirect = if status.is_redirection() { ", and redirects are not followed" } else { ", expected 200" };
        return Err(format!("status {}{redirect}", status.as_u16()).into());
    }
    deadline.within("reading the body", search(response.into_body())).await?
}

async fn search<B>(mut body: B) -> Result<Sample, MemoryError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut seen = 0;
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| http::describe(&e))?.into_data() else { continue };
        seen += data.len();
        if lines.take(&data)? {
            break;
        }
        if seen > MAX_BYTES {
            return Err(Unbelievable::Format(format!(
                "{TOTAL} and {AVAILABLE} are not in the first {} MiB of the answer",
                MAX_BYTES >> 20
            ))
            .into());
        }
    }
    // A last line without its end may have been cut, within a number: it does not count.
    let total = lines.total.ok_or(Unbelievable::Missing(TOTAL))?;
    let available = lines.available.ok_or(Unbelievable::Missing(AVAILABLE))?;
    // Its pressure is a counter of seconds, which says nothing without an earlier look.
    Ok(believe::sample(total, available, None)?)
}

/// Finds the two among lines that arrive in pieces.
#[derive(Default)]
struct Lines {
    /// The line so far.
    line: Vec<u8>,
    /// The line is too long to be one of the two.
    skipping: bool,
    total: Option<f64>,
    available: Option<f64>,
}

impl Lines {
    /// Takes the next piece. Whether both were found.
    fn take(&mut self, data: &[u8]) -> Result<bool, Unbelievable> {
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.skipping |= self.line.len() + text.len() > MAX_LINE_BYTES;
            if !self.skipping {
                self.line.extend_from_slice(text);
            }
            if ended {
                if !self.skipping {
                    self.end()?;
                }
                self.line.clear();
                self.skipping = false;
            }
            if self.total.is_some() && self.available.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A whole line: `name value`, and perhaps a time in milliseconds.
    fn end(&mut self) -> Result<(), Unbelievable> {
        let Ok(line) = std::str::from_utf8(&self.line) else { return Ok(()) };
        let mut words = line.split_ascii_whitespace();
        let (into, name) = match words.next() {
            Some(TOTAL) => (&mut self.total, TOTAL),
            Some(AVAILABLE) => (&mut self.available, AVAILABLE),
            _ => return Ok(()),
        };
        let value = words.next().and_then(|word| word.parse().ok()).ok_or(Unbelievable::NotANumber(name))?;
        if let Some(time) = words.next() {
            let time = time.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let time = time.ok_or_else(|| Unbelievable::Format(format!("the time of {name} is not a number")))?;
            believe::fresh(time, Timestamp::now())?;
        }
        *into = Some(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: &str = "# HELP node_memory_MemAvailable_bytes Memory information field MemAvailable_bytes.\n\
                        # TYPE node_memory_MemAvailable_bytes gauge\nnode_memory_MemAvailable_bytes 2.5e+09\n\
                        node_memory_MemTotal_bytes{other=\"1\"} 7\nnode_memory_MemTotal_bytes 4e+09\nlate 1\n";

    async fn search_of(text: &str, piece: usize) -> Result<Sample, MemoryError> {
        let pieces: Vec<Bytes> = text.as_bytes().chunks(piece).map(Bytes::copy_from_slice).collect();
        let stream = futures_util::stream::iter(pieces.into_iter().map(|p| Ok(hyper::body::Frame::data(p))));
        search(http_body_util::StreamBody::new(stream)).await
    }

    #[tokio::test]
    async fn search_of_a_text_in_pieces_of_any_size_finds_both() {
        for piece in [1, 7, 64, 10_000] {
            let sample = search_of(TEXT, piece).await.unwrap();
            assert_eq!((sample.total_bytes, sample.available_bytes), (4_000_000_000, 2_500_000_000), "{piece}");
        }
    }

    #[tokio::test]
    async fn search_of_a_text_that_is_cut_within_a_number_does_not_take_it() {
        let cut = TEXT.trim_end_matches("+09\nlate 1\n");
        let error = search_of(cut, 5).await.unwrap_err();
        assert_eq!(error.to_string(), "it does not say node_memory_MemTotal_bytes");
    }

    #[tokio::test]
    async fn search_passes_over_lines_that_are_too_long() {
        let text = format!("{}\n{TEXT}", "x".repeat(100_000));
        assert!(search_of(&text, 1000).await.is_ok());
    }

    #[rstest]
    #[case("4e+09", "NaN", "total memory is not a number")]
    #[case("4e+09", "-1", "total memory is negative")]
    #[case("4e+09", "+Inf", "total memory is more than 2^60 bytes")]
    #[case("4e+09", "0", "total memory is 0")]
    #[case("4e+09", "lots", "node_memory_MemTotal_bytes is not a number")]
    #[case("4e+09", "1e+09", "2500000000 bytes are said to be available of 1000000000 in all")]
    #[case("4e+09", "4e+09 soon", "the time of node_memory_MemTotal_bytes is not a number")]
    #[case("node_memory_MemTotal_bytes 4e+09\n", "", "it does not say node_memory_MemTotal_bytes")]
    #[tokio::test]
    async fn search_of_a_wrong_text_says_why(#[case] old: &str, #[case] new: &str, #[case] why: &str) {
        assert_eq!(search_of(&TEXT.replace(old, new), 50).await.unwrap_err().to_string(), why);
    }

    #[tokio::test]
    async fn search_of_old_or_future_values_is_refused() {
        let at = |s: i64| TEXT.replace("4e+09", &format!("4e+09 {}", Timestamp::now().as_millisecond() + 1000 * s));
        assert!(search_of(&at(-30), 50).await.is_ok());
        let error = search_of(&at(-100), 50).await.unwrap_err();
        assert!(matches!(error, MemoryError::Unbelievable(Unbelievable::Stale(100..=101))), "{error}");
        let error = search_of(&at(100), 50).await.unwrap_err();
        assert!(matches!(error, MemoryError::Unbelievable(Unbelievable::FromTheFuture(99..=100))), "{error}");
    }

    #[tokio::test]
    async fn search_ends_at_its_limit() {
        let line = "filler 1\n";
        let text = format!("{}{TEXT}", line.repeat(MAX_BYTES / line.len() + 1000));
        let why =
            "node_memory_MemTotal_bytes and node_memory_MemAvailable_bytes are not in the first 2 MiB of the answer";
        assert_eq!(search_of(&text, 1000).await.unwrap_err().to_string(), why);
    }
}
