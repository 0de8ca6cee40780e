//! What a backend's own agent advises, in the words of HAProxy's agent-check. A fourth fact beside intent, health and
//! memory: advice never overrides a probe.
//!
//! Words and rules: HAProxy 2.6, Configuration Manual, 5.2, `agent-check`. What an agent does not mention is not changed;
//! of several words of one kind the last counts.

/// One answer of an agent. All absent: it had nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Share of the configured weight, per cent; `75%`. HAProxy lets it exceed 100.
    pub percent: Option<u16>,
    /// What is asked of the operator's side; `ready`, `drain`, `maint`.
    pub intent: Option<Intent>,
    /// How the agent finds its service; `up`, `down`, `fail`, `stopped`.
    pub state: Option<State>,
    /// Connections that the server should hold at most; `maxconn:30`.
    pub max_connections: Option<u32>,
    /// What stands behind `#`: the agent's reason, at most [`MESSAGE_CHARS`] characters, none of them a control.
    pub message: Option<String>,
    /// The first word that is none of the protocol's, shortened and cleaned like the message. The others still count.
    pub unknown: Option<String>,
}

/// An administrative wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Ends a drain or maintenance that the agent asked for.
    Ready,
    /// No new flows.
    Drain,
    /// No flows at all.
    Maintenance,
}

/// An operating state, in the agent's opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Up,
    /// It is not there, or does not answer.
    Down,
    /// It is there, but fails its own tests.
    Fail,
    /// It was stopped on purpose.
    Stopped,
}

impl State {
    /// Whether it says that the server should take no flows.
    pub fn is_down(self) -> bool {
        self != Self::Up
    }
}

/// Longest message that is kept, in characters.
pub const MESSAGE_CHARS: usize = 128;
/// Highest percentage that is kept: HAProxy's, whose weights end at 256 times the configured 1.
const MAX_PERCENT: u16 = 25_600;

impl Advice {
    /// Reads a line, without its end. Words are separated by spaces, tabs or commas and may be in any case; the first one
    /// that begins with `#` begins the message.
    pub fn parse(line: &str) -> Self {
        let mut advice = Self::default();
        let mut rest = line;
        loop {
            rest = rest.trim_start_matches(SEPARATORS);
            if let Some(message) = rest.strip_prefix('#') {
                advice.message = cleaned(message);
                break;
            }
            if rest.is_empty() {
                break;
            }
            let (word, tail) = rest.split_at(rest.find(SEPARATORS).unwrap_or(rest.len()));
            advice.word(word);
            rest = tail;
        }
        advice
    }

    fn word(&mut self, word: &str) {
        match word.to_ascii_lowercase().as_str() {
            "up" => self.state = Some(State::Up),
            "down" => self.state = Some(State::Down),
            "fail" => self.state = Some(State::Fail),
            "stopped" => self.state = Some(State::Stopped),
            "ready" => self.intent = Some(Intent::Ready),
            "drain" => self.intent = Some(Intent::Drain),
            "maint" => self.intent = Some(Intent::Maintenance),
            other => {
                let percent = other.strip_suffix('%').and_then(|digits| number(digits, MAX_PERCENT.into()));
                let connections = other.strip_prefix("maxconn:").and_then(|digits| number(digits, u32::MAX));
                if let Some(percent) = percent {
                    self.percent = u16::try_from(percent).ok();
                } else if connections.is_some() {
                    self.max_connections = connections;
                } else if self.unknown.is_none() {
                    self.unknown = cleaned(word);
                }
            }
        }
    }
}

const SEPARATORS: [char; 3] = [' ', '\t', ','];

/// A number of digits alone; what is larger than `most` is `most`.
fn number(digits: &str, most: u32) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // Too many digits for u64 are more than any limit here.
    plain.then(|| digits.parse::<u64>().map_or(most, |n| u32::try_from(n).map_or(most, |n| n.min(most))))
}

/// Text of the other side, made fit for one line of a log or terminal.
fn cleaned(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("75%", Advice { percent: Some(75), ..Advice::default() })]
    #[case("0%", Advice { percent: Some(0), ..Advice::default() })]
    #[case("drain", Advice { intent: Some(Intent::Drain), ..Advice::default() })]
    #[case("MAINT", Advice { intent: Some(Intent::Maintenance), ..Advice::default() })]
    #[case("maxconn:30", Advice { max_connections: Some(30), ..Advice::default() })]
    #[case("up, ready\t50%", Advice { state: Some(State::Up), intent: Some(Intent::Ready), percent: Some(50), ..Advice::default() })]
    #[case("stopped # new release", Advice { state: Some(State::Stopped), message: Some("new release".into()), ..Advice::default() })]
    #[case("fail #queue: 90% full, drain soon", Advice { state: Some(State::Fail), message: Some("queue: 90% full, drain soon".into()), ..Advice::default() })]
    #[case("", Advice::default())]
    #[case("  \t,", Advice::default())]
    #[case("#", Advice::default())]
    fn parse_of_the_protocols_words_is_what_haproxy_documents(#[case] line: &str, #[case] wanted: Advice) {
        assert_eq!(Advice::parse(line), wanted);
    }

    #[test]
    fn parse_of_several_words_of_a_kind_keeps_the_last() {
        let advice = Advice::parse("up down 10% drain 20% ready");
        assert_eq!((advice.state, advice.percent, advice.intent), (Some(State::Down), Some(20), Some(Intent::Ready)));
    }

    #[rstest]
    fn parse_of_an_unknown_word_names_it_and_keeps_the_rest(
        #[values("hello", "-5%", "%", "75", "7.5%", "maxconn:", "maxconn:-1", "maxconn:x", "updown", "٣%")] word: &str,
    ) {
        let advice = Advice::parse(&format!("{word} drain second"));
        assert_eq!((advice.unknown.as_deref(), advice.intent), (Some(word), Some(Intent::Drain)));
        assert_eq!((advice.percent, advice.max_connections), (None, None));
    }

    #[test]
    fn parse_of_absurd_numbers_ends_at_the_limits() {
        let advice = Advice::parse("99999999999999999999999% maxconn:99999999999999999999999");
        assert_eq!((advice.percent, advice.max_connections), (Some(25_600), Some(u32::MAX)));
    }

    #[test]
    fn parse_of_a_message_removes_what_a_terminal_would_obey() {
        let advice = Advice::parse("down # \u{1b}[31mred\u{7}");
        assert_eq!(advice.message.as_deref(), Some("[31mred"));
    }

    proptest! {
        #[test]
        fn parse_of_any_line_is_bounded_and_clean(line: String) {
            let advice = Advice::parse(&line);
            for text in [advice.message, advice.unknown].into_iter().flatten() {
                prop_assert!(text.chars().count() <= MESSAGE_CHARS && !text.chars().any(char::is_control));
            }
        }
    }
}
