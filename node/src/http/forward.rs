//! Requests about sharing that another process answers, because that one meets other brains. They are passed on with the caller's own token,
//! and nothing of this process's.
//!
//! Only what a route of sharing has matched is passed on, and once: by `Via` whoever gets it knows that a node has asked, and answers itself.

use std::error::Error;
use std::iter::successors;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, RETRY_AFTER, USER_AGENT, VIA, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cairn_telemetry::trace;
use futures::StreamExt;
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use tracing::warn;

use super::App;
use super::error::ApiError;
use super::extract::{Caller, too_large};

/// The most processes that take turns.
pub const MAX_ADDRESSES: usize = 8;

/// How long a connection to one of them may take. They are close.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer may take, all of them together: less than the caller is kept waiting, so that it comes to know why.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(50);

/// The largest answer, in bytes: what a brain shares with many others, with all that is chosen for its spaces, is far below.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What a node adds to `Via`.
const VIA_NODE: &str = "1.1 cairn-node";

/// What the API looks at in a request. Everything else is between the caller and this process.
const ASKED_WITH: [HeaderName; 8] = [
    ACCEPT,
    AUTHORIZATION,
    CONTENT_TYPE,
    USER_AGENT,
    VIA,
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-tenant-id"),
    HeaderName::from_static("idempotency-key"),
];

/// What the API says in the headers of an answer.
const ANSWERED_WITH: [HeaderName; 4] =
    [CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, HeaderName::from_static(REQUEST_ID)];

/// Every answer of a process of Cairn has it.
const REQUEST_ID: &str = "x-request-id";

/// An address that names no process.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAddress {
    /// It is no address of HTTP.
    #[error("`{0}` is no URL such as http://127.0.0.1:7414")]
    NoUrl(String),
    /// It holds what belongs to single requests, or a secret.
    #[error("the URL of {0} has a user, a query or a fragment, which is not taken")]
    More(String),
    /// There are too many.
    #[error("it names {0} processes; {MAX_ADDRESSES} are taken")]
    TooMany(usize),
}

/// Where requests about sharing are passed on to.
#[derive(Debug)]
pub struct Forward {
    client: Client,
    to: Vec<Url>,
}

/// A request to be passed on.
struct Passed {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// What came of asking one process.
enum Asked {
    /// It has answered.
    Answered(Response),
    /// It has said that it is another's turn.
    NotItsTurn(Response),
    /// It is not there.
    Absent(String),
}

#[derive(Deserialize)]
struct Failure {
    error: FailureCode,
}

#[derive(Deserialize)]
struct FailureCode {
    code: String,
}

impl Forward {
    /// To the processes at these URLs, with commas between them; to none where there are none.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn to(addresses: &str) -> Result<Self, InvalidAddress> {
        let addresses = addresses.split(',').map(str::trim).filter(|address| !address.is_empty());
        let to = addresses.map(parse).collect::<Result<Vec<Url>, InvalidAddress>>()?;
        if to.len() > MAX_ADDRESSES {
            return Err(InvalidAddress::TooMany(to.len()));
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A token goes to who was named, and to nobody that this one or the environment names.
            .redirect(redirect::Policy::none())
            .no_proxy()
            // These requests are rare, and a connection that was kept may lead to a process that has ended since.
            .pool_max_idle_per_host(0)
            .build()
            .expect("the options above are valid together");
        Ok(Self { client, to })
    }

    /// Asks one after the other until one answers whose turn it is.
    async fn ask(&self, request: &Passed) -> Result<Response, ApiError> {
        let (mut not_its_turn, mut absent) = (None, Vec::new());
        for address in &self.to {
            match self.ask_one(address, request).await? {
                Asked::Answered(response) => return Ok(response),
                Asked::NotItsTurn(response) => not_its_turn = Some(response),
                Asked::Absent(reason) => absent.push(format!("{address} ({reason})")),
            }
        }
        not_its_turn.ok_or_else(|| {
            let absent = absent.join(", ");
            warn!(%absent, "what meets other brains is not there");
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SHARING_UNREACHABLE",
                format!(
                    "this node leaves sharing to another process, and there is none at {absent}; start `cairn-federation`, or \
                     say in [federation] with `answered_at` where it is"
                ),
            )
        })
    }

    async fn ask_one(&self, address: &Url, request: &Passed) -> Result<Asked, ApiError> {
        let url = at(address, &request.uri).ok_or_else(|| ApiError::not_found("route", request.uri.path()))?;
        let asked = self.client.request(request.method.clone(), url).headers(request.headers.clone());
        let answer = match asked.body(request.body.clone()).send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Ok(Asked::Absent(reason(&error))),
            Err(error) => return Err(broken(address, reason(&error))),
        };
        if !answer.headers().contains_key(REQUEST_ID) {
            return Err(broken(address, "it is no process of Cairn".to_owned()));
        }
        let (status, mut headers) = (answer.status(), HeaderMap::new());
        keep(&ANSWERED_WITH, answer.headers(), &mut headers);
        let (mut body, mut chunks) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| broken(address, reason(&error)))?;
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(broken(address, format!("it is longer than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let code = (!status.is_success()).then(|| serde_json::from_slice::<Failure>(&body).ok()).flatten();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        match code.as_ref().map(|failure| failure.error.code.as_str()) {
            Some("SHARING_OFF") => Ok(Asked::NotItsTurn(response)),
            Some("NO_SUCH_ROUTE") => Err(broken(address, "that process does not know of sharing".to_owned())),
            _ => Ok(Asked::Answered(response)),
        }
    }
}

/// Passes a request on where another process answers it.
pub async fn pass_on(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.forward.to.is_empty() || app.sharing().is_some() || came_from_a_node(request.headers()) {
        return next.run(request).await;
    }
    let passed = async {
        let request = take(&app, request).await?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, app.forward.ask(&request));
        answer.await.unwrap_or_else(|_| Err(late()))
    };
    passed.await.unwrap_or_else(IntoResponse::into_response)
}

/// Takes a request in, from callers that are known here. What they may do is decided where it is answered.
async fn take(app: &App, request: Request) -> Result<Passed, ApiError> {
    let (mut parts, body) = request.into_parts();
    Caller::from_request_parts(&mut parts, app).await?;
    let (method, uri, mut headers) = (parts.method.clone(), parts.uri.clone(), HeaderMap::new());
    keep(&ASKED_WITH, &parts.headers, &mut headers);
    headers.append(VIA, HeaderValue::from_static(VIA_NODE));
    if let Some(own) = trace::current().and_then(|own| HeaderValue::from_str(&own).ok()) {
        headers.insert("traceparent", own);
    }
    // It fails by its length, and where the caller is gone.
    let body = Bytes::from_request(Request::from_parts(parts, body), app).await.map_err(|_| too_large())?;
    Ok(Passed { method, uri, headers, body })
}

fn came_from_a_node(headers: &HeaderMap) -> bool {
    let ways = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    ways.flat_map(|ways| ways.split(',')).any(|way| way.trim() == VIA_NODE)
}

fn keep(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

fn parse(address: &str) -> Result<Url, InvalidAddress> {
    let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // What stands before an `@` may be a password.
    let url =
        url.ok_or_else(|| InvalidAddress::NoUrl(address.rsplit('@').next().unwrap_or_default().to_owned()))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if plain && url.query().is_none() && url.fragment().is_none() {
        return Ok(url);
    }
    Err(InvalidAddress::More(url.host_str().unwrap_or_default().to_owned()))
}

/// What a request asks for, at another address. None where the path would lead elsewhere there: `..` is a name to the routes here, and a step
/// back in a URL.
fn at(address: &Url, uri: &Uri) -> Option<Url> {
    let path = format!("{}{}", address.path().trim_end_matches('/'), uri.path());
    let mut url = address.clone();
    url.set_path(&path);
    url.set_query(uri.query());
    (url.path() == path).then_some(url)
}

/// The innermost cause: what the system says.
fn reason(error: &reqwest::Error) -> String {
    let causes = successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

fn broken(address: &Url, reason: String) -> ApiError {
    warn!(%address, %reason, "what meets other brains has not answered as it should");
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        "SHARING_BROKEN",
        format!(
            "the answer from {address}, where this node asks about sharing, cannot be passed on: {reason}. What was asked for may have happened; \
             see, and look at the log of the process there"
        ),
    )
}

fn late() -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        "TIMEOUT",
        "the process that this node asks about sharing took too long; what was asked for may have happened",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_http_are_taken() {
        assert!(Forward::to("").expect("none").to.is_empty());
        let two = Forward::to("http://127.0.0.1:7414, https://brain.example.org/cairn/").expect("valid");
        assert_eq!(two.to.len(), 2);
        for wrong in [
            "127.0.0.1:7414",
            "ftp://127.0.0.1",
            "http://",
            "http://a:rosebud@b",
            "htp://a:rosebud@b",
            "http://a?b",
            "http://a#b",
        ] {
            let error = Forward::to(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("rosebud"), "{error}");
        }
        assert!(matches!(Forward::to(&["http://a"; 9].join(",")), Err(InvalidAddress::TooMany(9))));
    }

    #[test]
    fn what_is_asked_for_is_the_same_there() {
        let to = |address: &str, path: &'static str| {
            let address = Url::parse(address).expect("valid");
            at(&address, &Uri::from_static(path)).map(String::from)
        };
        let asked = "/spaces/abc/grants?all=1&x=%2F";
        assert_eq!(to("http://a:1", asked).as_deref(), Some("http://a:1/spaces/abc/grants?all=1&x=%2F"));
        assert_eq!(
            to("https://a/cairn/", asked).as_deref(),
            Some("https://a/cairn/spaces/abc/grants?all=1&x=%2F")
        );
        for outside in ["/peers/..", "/spaces/../wishes/x", "/peers/%2e%2e", "/spaces/%2E./grants"] {
            assert_eq!(to("http://a:1", outside), None, "{outside}");
        }
    }

    #[test]
    fn a_node_knows_what_a_node_has_passed_on() {
        let via = |value: &'static str| HeaderMap::from_iter([(VIA, HeaderValue::from_static(value))]);
        assert!(came_from_a_node(&via("1.1 cairn-node")));
        assert!(came_from_a_node(&via("2 proxy.example.org (nginx), 1.1 cairn-node")));
        assert!(!came_from_a_node(&via("1.1 cairn-node-of-somebody")));
        assert!(!came_from_a_node(&HeaderMap::new()));
    }

    #[test]
    fn what_is_between_the_caller_and_this_process_stays_here() {
        let mut kept = HeaderMap::new();
        let asked = ["authorization", "connection", "cookie", "host", "te", "content-length", "x-tenant-id"];
        let asked = asked.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")));
        keep(&ASKED_WITH, &HeaderMap::from_iter(asked), &mut kept);
        let names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["authorization", "x-tenant-id"]);
    }
}
