//! Commands as they stand on the wire, literals included.

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest command line; longer ones end the session.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Longest literal: an upload of the tests is 50 MB.
const LITERAL_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A command: its words in order, quotes taken off.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) tag: String,
    pub(crate) verb: String,
    pub(crate) words: Vec<Vec<u8>>,
}

impl Command {
    /// A word as text, empty when absent.
    pub(crate) fn text(&self, at: usize) -> String {
        self.words.get(at).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    }

    /// The command for the log: no password, no message.
    pub(crate) fn shown(&self) -> String {
        let words: Vec<String> = match self.verb.as_str() {
            "LOGIN" => vec![self.text(0), "(password)".to_owned()],
            "AUTHENTICATE" => vec![self.text(0)],
            "APPEND" => {
                vec![self.text(0), format!("({} octets)", self.words.last().map_or(0, Vec::len))]
            }
            _ => self.words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        };
        format!("{} {}", self.verb, words.join(" ")).trim_end().to_owned()
    }
}

/// Read one command; `None` at the end of the stream.
pub(crate) async fn read<S>(stream: &mut S) -> Result<Option<Command>>
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let mut words = Vec::new();
    loop {
        let Some(line) = line(stream).await? else { return Ok(None) };
        let (text, literal) = split_literal(&line);
        split_words(text, &mut words)?;
        let Some((octets, waits)) = literal else { break };
        ensure!(octets <= LITERAL_BYTES_MAX, "a literal of {octets} octets");
        if waits {
            stream.write_all(b"+ go on\r\n").await?;
            stream.flush().await?;
        }
        let mut content = vec![0; octets];
        stream.read_exact(&mut content).await?;
        words.push(content);
    }
    let mut words = words.into_iter();
    let mut next =
        || words.next().map(|word| String::from_utf8_lossy(&word).into_owned()).unwrap_or_default();
    let (tag, mut verb) = (next(), next().to_uppercase());
    if verb == "UID" {
        verb = format!("UID {}", next().to_uppercase());
    }
    Ok(Some(Command { tag, verb, words: words.collect() }))
}

/// One line without its end.
pub(crate) async fn line<S: AsyncBufRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = stream.take(LINE_BYTES_MAX);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        bail!("a line without end after {} octets", line.len());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

/// `{n}` waits for a continuation, `{n+}` does not (RFC 7888).
fn split_literal(line: &[u8]) -> (&[u8], Option<(usize, bool)>) {
    let none = (line, None);
    let Some(inner) = line.strip_suffix(b"}") else { return none };
    let Some(open) = inner.iter().rposition(|&octet| octet == b'{') else { return none };
    let (text, digits) = inner.split_at(open);
    let digits = String::from_utf8_lossy(digits.get(1..).unwrap_or_default()).into_owned();
    let (digits, waits) = digits.strip_suffix('+').map_or((digits.as_str(), true), |digits| (digits, false));
    digits.parse().map_or(none, |octets| (text, Some((octets, waits))))
}

/// Words end at spaces outside quotes and outside parentheses or brackets.
fn split_words(text: &[u8], words: &mut Vec<Vec<u8>>) -> Result<()> {
    let mut word = Vec::new();
    let (mut depth, mut quoted, mut was_quoted) = (0_u32, false, false);
    let mut octets = text.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' if quoted => word.extend(octets.next()),
            b'"' if depth == 0 => {
                quoted = !quoted;
                was_quoted = true;
            }
            b' ' if !quoted && depth == 0 => {
                if !word.is_empty() || was_quoted {
                    words.push(std::mem::take(&mut word));
                }
                was_quoted = false;
            }
            _ => {
                if !quoted {
                    match octet {
                        b'(' | b'[' => depth += 1,
                        b')' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
                word.push(octet);
            }
        }
    }
    ensure!(!quoted, "a quote without end");
    if !word.is_empty() || was_quoted {
        words.push(word);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_brackets_and_lose_quotes() {
        let mut words = Vec::new();
        split_words(br#"a1 FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (DATE)]) "x \" y" """#, &mut words)
            .unwrap();
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        assert_eq!(words, ["a1", "FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (DATE)])", "x \" y", ""]);
    }

    #[test]
    fn literals_say_whether_the_client_waits() {
        assert_eq!(split_literal(b"a APPEND INBOX {12}"), (&b"a APPEND INBOX "[..], Some((12, true))));
        assert_eq!(split_literal(b"a LOGIN {3+}"), (&b"a LOGIN "[..], Some((3, false))));
        assert_eq!(split_literal(b"a NOOP"), (&b"a NOOP"[..], None));
    }
}
