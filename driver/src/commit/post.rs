//! One request per batch. A receiver that remembers idempotency keys takes each batch once.

use super::Writer;
use crate::core::Post;
use std::sync::Arc;
use std::time::Duration;
use tidemill_job::MAX_BODY_BYTES;
use tokio_util::sync::CancellationToken;
use ureq::http::StatusCode;

/// Waits between attempts double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of an answer that are shown.
const ANSWER_BYTES: u64 = 300;

/// Why an attempt failed.
#[derive(Debug)]
struct Failure {
    reason: String,
    /// Another attempt may succeed.
    passing: bool,
}

/// Sends the request until it is accepted; the bytes are the same every time.
pub(super) async fn send(writer: &Writer, post: Post, stop: &CancellationToken) -> Result<(), String> {
    if post.body.len() > MAX_BODY_BYTES {
        let most = MAX_BODY_BYTES >> 20;
        return Err(format!("output `{}`: a batch has more than {most} MiB for one request", post.output));
    }
    let key = format!("{}-{}-{}", writer.job_name(), writer.batch, post.output);
    let post = Arc::new(post);
    let mut wait = FIRST_WAIT;
    for attempt in 0.. {
        let (post_now, key) = (post.clone(), key.clone());
        let done = tokio::task::spawn_blocking(move || attempt_once(&post_now, &key)).await;
        let Failure { reason, passing } = match done.map_err(|error| error.to_string())? {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if !passing || attempt >= post.to.retries {
            return Err(format!("output `{}`: {} was not accepted: {reason}", post.output, post.to.url));
        }
        tracing::warn!(output = post.output, batch = writer.batch.0, reason, "a request failed and is sent again");
        tokio::select! {
            () = stop.cancelled() => return Err("the driver is stopping".to_string()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

fn attempt_once(post: &Post, key: &str) -> Result<(), Failure> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(post.to.timeout))
        .http_status_as_error(false)
        // A redirected POST would become a GET, without the rows.
        .max_redirects(0)
        .max_redirects_will_error(false);
    let agent = ureq::Agent::new_with_config(config.build());
    let mut request = agent.post(&post.to.url).content_type("application/x-ndjson").header("Idempotency-Key", key);
    for (name, value) in &post.to.headers {
        request = request.header(name, value);
    }
    let answer = request.send(&post.body[..]);
    let mut answer = answer.map_err(|error| Failure { passing: is_passing(&error), reason: error.to_string() })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string().unwrap_or_default();
    let passing =
        status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    Err(Failure { reason: format!("{status} {}", text.trim()).trim().to_string(), passing })
}

/// Whether the request itself is at fault, or only the way to the server.
fn is_passing(error: &ureq::Error) -> bool {
    !matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::RequireHttpsOnly(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex;
    use tidemill_common::ids::{BatchId, JobId};
    use tidemill_job::HttpSink;

    /// What a request said.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Heard {
        key: String,
        body: String,
    }

    /// A server that answers with these statuses in turn; an answer of 0 closes the connection.
    fn server(answers: &'static [u16]) -> (String, Arc<Mutex<Vec<Heard>>>) {
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
                if *status > 0 {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\nconnection: close\r\n\r\nwhy");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        (url, heard)
    }

    async fn send_to(url: String, retries: u32) -> Result<(), String> {
        let to = HttpSink { url, timeout: Duration::from_secs(5), retries, headers: vec![] };
        let post = Post { output: "out".into(), to, body: b"{\"a\":1}\n".to_vec() };
        let writer = Writer { cluster: "c".into(), job: JobId(1), batch: BatchId(7) };
        send(&writer, post, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn the_same_request_until_it_is_accepted() {
        let (url, heard) = server(&[503, 0, 429, 200]);
        send_to(url, 3).await.unwrap();
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 4);
        let expected = Heard { key: "c.1-7-out".into(), body: "{\"a\":1}\n".into() };
        assert!(heard.iter().all(|request| *request == expected), "{heard:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_so_is_the_last_retry() {
        for (answers, retries, attempts) in [(&[400][..], 5, 1), (&[302], 5, 1), (&[500, 500], 1, 2)] {
            let (url, heard) = server(answers);
            let error = send_to(url, retries).await.unwrap_err();
            assert!(error.contains("output `out`") && error.contains("why"), "{error}");
            assert_eq!(heard.lock().unwrap().len(), attempts);
        }
    }
}
