//! One request per batch. A server that remembers idempotency keys takes each batch once.

use crate::delivery::Delivery;
use crate::sink::{Commit, CommitError, Retries, SinkConfig, SinkConnector};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::definition::{Key, Name, Reader, Shape, Value};
use tidemill_common::diag::Diagnostic;
use tidemill_rows::arrow::array::RecordBatch;
use tidemill_rows::{RowError, rows_to_json};
use ureq::http::StatusCode;

/// Attempts after the first.
const RETRIES: RangeInclusive<u64> = 0..=100;
/// Bytes of an answer that are shown.
const ANSWER_BYTES: u64 = 300;

const KEYS: &[Key] = &[
    Key::new("url", Shape::Text, "Where the rows are posted.").required(),
    Key::new("timeout", Shape::Duration, "How long one attempt may take. Default 10s."),
    Key::new("retries", Shape::Count(RETRIES), "Attempts after the first. Default 5."),
    Key::new("headers", Shape::TextByName, "Further headers."),
];

/// The rows of every batch as JSON lines in one request.
#[derive(Debug)]
pub struct Http;

/// What a definition says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to.
    pub url: String,
    /// How long one attempt may take. Default 10 s.
    pub timeout: Duration,
    /// Attempts after the first. Default 5.
    pub retries: u32,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl SinkConnector for Http {
    type Config = HttpConfig;

    const KEY: &'static [Key; 1] =
        &[Key::new("http", Shape::Table(KEYS), "Posts the rows of every batch, at least once.")];
    const DELIVERY: Delivery = Delivery::AtLeastOnce;

    fn read<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<HttpConfig> {
        let table = r.table(value, "`http`", value.span(), &[KEYS])?;
        let url = table.get("url").and_then(|v| read_url(r, v));
        let timeout = match table.get("timeout") {
            Some(value) => r.duration(value),
            None => Some(Duration::from_secs(10)),
        };
        let retries = match table.get("retries") {
            Some(value) => r.small_count(value, RETRIES),
            None => Some(5),
        };
        let headers = match table.get("headers") {
            Some(value) => read_headers(r, value),
            None => Some(Vec::new()),
        };
        Some(HttpConfig { url: url?, timeout: timeout?, retries: retries?, headers: headers? })
    }
}

impl SinkConfig for HttpConfig {
    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        Ok(rows_to_json(rows)?.into_iter().map(String::into_bytes).collect())
    }

    fn retries(&self) -> Retries {
        Retries { attempts: self.retries, first_wait: Duration::from_millis(500), patience: Duration::MAX }
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<(), CommitError> {
        let http = self.clone();
        tokio::task::spawn_blocking(move || http.send(&commit)).await.map_err(CommitError::lasting)?
    }
}

fn read_url<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<String> {
    let Name { text, span } = r.text(value)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let good = !host.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !good {
        let wrong = Diagnostic::new(format!("`{text}` is not a URL")).at(span);
        r.push(wrong.label("expected `http://..` or `https://..`"));
    }
    good.then_some(text)
}

/// Names of headers that the sender sets itself.
const OWN_HEADERS: [&str; 4] = ["idempotency-key", "content-type", "content-length", "host"];

fn read_headers<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<(String, String)>> {
    let entries = r.entries(value)?;
    let count = entries.len();
    let mut headers = Vec::new();
    for (name, value) in entries {
        let Some(text) = r.text(value) else { continue };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.text.is_empty() || !name.text.chars().all(token) {
            let wrong = Diagnostic::new(format!("`{}` cannot name a header", name.text));
            r.push(wrong.at(name.span).label("expected letters, digits and `-`"));
        } else if OWN_HEADERS.contains(&name.text.to_ascii_lowercase().as_str()) {
            r.push(Diagnostic::new(format!("header `{}` is set by the output itself", name.text)).at(name.span));
        } else if text.text.chars().any(|c| c.is_control() || !c.is_ascii()) {
            let wrong = Diagnostic::new("the value of a header is printable ASCII").at(text.span);
            r.push(wrong);
        } else {
            headers.push((name.text, text.text));
        }
    }
    (headers.len() == count).then_some(headers)
}

impl HttpConfig {
    /// Sends the request; its bytes are the same every time.
    fn send(&self, commit: &Commit) -> Result<(), CommitError> {
        let mut body = Vec::new();
        for row in commit.held_rows()? {
            body.extend_from_slice(&row);
            body.push(b'\n');
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            // A redirected POST would become a GET, without the rows.
            .max_redirects(0)
            .max_redirects_will_error(false);
        let agent = ureq::Agent::new_with_config(config.build());
        let mut request = agent.post(&self.url).content_type("application/x-ndjson");
        request = request.header("Idempotency-Key", commit.marker());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer =
            request.send(&body[..]).map_err(|error| self.refused(is_passing(&error), &error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string().unwrap_or_default();
        let passing =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(self.refused(passing, format!("{status} {}", text.trim()).trim()))
    }

    fn refused(&self, passing: bool, reason: &str) -> CommitError {
        CommitError { reason: format!("{} was not accepted: {reason}", self.url), passing }
    }
}

/// Whether the request itself is at fault, or only the way to the server.
fn is_passing(error: &ureq::Error) -> bool {
    !matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::RequireHttpsOnly(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PartRow;
    use crate::sink::{Part, part_of};
    use crate::testkit::commit;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex;

    /// What a request said.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Heard {
        key: String,
        body: String,
    }

    /// A server that answers with these statuses in turn; an answer of 0 closes the connection.
    fn server(answers: Vec<u16>) -> (String, Arc<Mutex<Vec<Heard>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/rows", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let hearing = heard.clone();
        std::thread::spawn(move || {
            for status in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut key, mut length, mut line) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    let (name, value) = line.trim().split_once(": ").unwrap_or_default();
                    match name.to_ascii_lowercase().as_str() {
                        "idempotency-key" => key = value.into(),
                        "content-length" => length = value.parse().unwrap(),
                        _ => {}
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                hearing.lock().unwrap().push(Heard { key, body: String::from_utf8(body).unwrap() });
                if status > 0 {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\nconnection: close\r\n\r\nwhy");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        (url, heard)
    }

    fn rows() -> Arc<Commit> {
        let row = PartRow { lane: 0, order: 0, key: Vec::new(), row: b"{\"a\":1}".to_vec() };
        Arc::new(Commit { parts: vec![Part::Held(part_of(vec![row]).unwrap().into())], ..commit(7) })
    }

    async fn send_to(url: &str) -> Result<(), CommitError> {
        let to = HttpConfig { url: url.into(), timeout: Duration::from_secs(5), retries: 3, headers: vec![] };
        to.commit(rows()).await
    }

    #[tokio::test]
    async fn every_attempt_is_the_same_request_and_says_whether_another_may_succeed() {
        let answers = [503, 0, 429, 408, 400, 302, 200];
        let (url, heard) = server(answers.to_vec());
        for answer in answers {
            let sent = send_to(&url).await;
            let passing = matches!(answer, 503 | 0 | 429 | 408);
            match sent {
                Ok(()) => assert_eq!(answer, 200),
                Err(error) => {
                    assert_eq!(error.passing, passing, "{answer}: {error}");
                    assert!(error.reason.starts_with(&format!("{url} was not accepted: ")), "{error}");
                    assert!(answer == 0 || error.reason.contains("why"), "{error}");
                }
            }
        }
        let heard = heard.lock().unwrap();
        let expected = Heard { key: "c.1-7-out".into(), body: "{\"a\":1}\n".into() };
        assert!(heard.len() == answers.len() && heard.iter().all(|request| *request == expected), "{heard:?}");
    }
}
