//! HAProxy's agent-check protocol, as a client: connect, read one line.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::believe::Unbelievable;
use super::{Deadline, MemoryError, TIME, tcp};
use crate::config::memory::AgentCheck;
use crate::core::memory::advice::Advice;

/// Longest line that is read, its end not counted.
const MAX_LINE_BYTES: usize = 1 << 10;

/// Asks a server's agent once.
pub async fn ask(check: &AgentCheck) -> Result<Advice, MemoryError> {
    let deadline = Deadline::after(TIME);
    let stream = tcp::connect(check.to, deadline).await?;
    deadline.within("reading the agent's line", line(stream)).await?
}

/// The first line, which a carriage return or a line feed ends. Without one it may have been cut, `maxconn:30` to
/// `maxconn:3`, and so is not taken; nor does HAProxy.
async fn line(mut stream: impl AsyncRead + Unpin) -> Result<Advice, MemoryError> {
    let mut seen = [0; MAX_LINE_BYTES + 1];
    let mut length = 0;
    let end = loop {
        let read = stream.read(&mut seen[length..]).await.map_err(|e| tcp::words(&e))?;
        let end = seen[length..length + read].iter().position(|b| matches!(b, b'\r' | b'\n'));
        if let Some(end) = end {
            break length + end;
        }
        length += read;
        if read == 0 {
            return Err("connection closed before the agent's line was complete".to_owned().into());
        }
        if length > MAX_LINE_BYTES {
            return Err(Unbelievable::Format(format!("the agent's line exceeds {MAX_LINE_BYTES} bytes")).into());
        }
    };
    if end == 0 {
        return Err(Unbelievable::Format("the agent's line is empty".to_owned()).into());
    }
    let line = std::str::from_utf8(&seen[..end])
        .map_err(|_| Unbelievable::Format("the agent's line is no text".to_owned()))?;
    let advice = Advice::parse(line);
    match &advice.unknown {
        // Nothing but words of another protocol.
        Some(word) if advice == (Advice { unknown: advice.unknown.clone(), ..Advice::default() }) => {
            Err(Unbelievable::Format(format!("{word:?} is no word of the agent-check protocol")).into())
        }
        _ => Ok(advice),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::memory::advice::Intent;

    #[rstest]
    #[case("drain\n")]
    #[case("drain\r\n")]
    #[case("drain\rmaint")]
    #[case("drain\nmaint\n")]
    #[tokio::test]
    async fn line_ends_at_the_first_end_of_any_kind(#[case] text: &str) {
        assert_eq!(line(text.as_bytes()).await, Ok(Advice { intent: Some(Intent::Drain), ..Advice::default() }));
    }

    #[tokio::test]
    async fn line_that_arrives_in_pieces_is_put_together() {
        let stream = tokio_test_pieces(["dr", "ain 5", "0%\nready"]);
        let wanted = Advice { intent: Some(Intent::Drain), percent: Some(50), ..Advice::default() };
        assert_eq!(line(stream).await, Ok(wanted));
    }

    fn tokio_test_pieces(pieces: [&'static str; 3]) -> impl AsyncRead + Unpin {
        let [a, b, c] = pieces.map(str::as_bytes);
        a.chain(b).chain(c)
    }

    #[rstest]
    #[case("", "connection closed before the agent's line was complete")]
    #[case("maxconn:3", "connection closed before the agent's line was complete")]
    #[case("\n", "the agent's line is empty")]
    #[case("SSH-2.0-OpenSSH\r\n", "\"SSH-2.0-OpenSSH\" is no word of the agent-check protocol")]
    #[tokio::test]
    async fn line_that_is_no_advice_is_refused(#[case] text: &str, #[case] why: &str) {
        assert_eq!(line(text.as_bytes()).await.unwrap_err().to_string(), why);
    }

    #[tokio::test]
    async fn line_may_be_as_long_as_its_limit_and_no_longer() {
        let text = |n: usize| format!("up #{}\n", "x".repeat(n - 4));
        assert!(line(text(MAX_LINE_BYTES).as_bytes()).await.is_ok());
        let error = line(text(MAX_LINE_BYTES + 1).as_bytes()).await.unwrap_err();
        assert_eq!(error.to_string(), "the agent's line exceeds 1024 bytes");
        assert!(line(tokio::io::repeat(b'x')).await.is_err(), "an endless line");
        assert!(line(&b"up \xff\n"[..]).await.is_err());
    }
}
