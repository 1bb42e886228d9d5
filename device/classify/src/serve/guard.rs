//! Who may ask: host name, origin and token; and the headers that every answer carries.
//!
//! ```text
//! Host     an address, localhost, this machine's name with or without .local, or an --allow-host; else 403
//! Origin   the Host, where a browser names one; else 403
//! token    Authorization: Bearer TOKEN, where the server has one; else 401. Open without: page, /healthz
//! ```
//!
//! The first rule is against DNS rebinding: a page of a stranger whose name suddenly means this server is still asked for
//! by its own name. The second is against pages of strangers that send a browser's user's requests here.

use std::fs;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::page;
use super::refusal::Refusal;

/// Fewer characters can be guessed.
const MIN_TOKEN: usize = 16;
/// More are no token but a wrong file.
const MAX_TOKEN: usize = 4096;

/// Who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    token: Option<Token>,
    /// Lower case.
    hosts: Vec<String>,
}

/// A bearer token; never printed.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads a token file: one line. Says whether others may read it, too.
    ///
    /// # Errors
    /// When it cannot be read, or holds no token.
    pub(crate) fn read(path: &Path) -> Result<(Self, bool)> {
        let cannot = || format!("cannot read the token {}", path.display());
        let is_open = fs::metadata(path).with_context(cannot)?.permissions().mode() & 0o077 != 0;
        let text = fs::read_to_string(path).with_context(cannot)?;
        let token = text.trim();
        if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
            bail!(
                "the token {} has {} bytes, expected one line of {MIN_TOKEN} to {MAX_TOKEN} printable ASCII characters",
                path.display(),
                token.len()
            );
        }
        Ok((Self(token.to_owned()), is_open))
    }

    /// Compares every byte, so that the time does not tell how many are right.
    fn is(&self, found: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own.iter().zip(found).fold(0, |differs, (a, b)| black_box(differs | (a ^ b)));
        own.len() == found.len() && differs == 0
    }
}

impl Guard {
    /// Lets those in who have `token` and ask for one of `hosts`, or of the names of this machine.
    pub(crate) fn new(token: Option<Token>, hosts: &[String]) -> Self {
        let mut hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.push("localhost".to_owned());
        if let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
            let name = name.trim().to_ascii_lowercase();
            hosts.push(format!("{name}.local"));
            hosts.push(name);
        }
        Self { token, hosts }
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "no Host header, expected one"));
        };
        let name = name_of(host).to_ascii_lowercase();
        let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_address = match v6 {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => name.parse::<Ipv4Addr>().is_ok(),
        };
        if !is_address && !self.hosts.contains(&name) {
            let error = format!("host {name:?}, expected an address, or one of {}", self.hosts.join(", "));
            let hint = "start the server with --allow-host and the name by which clients ask for it";
            return Err(Refusal::new(StatusCode::FORBIDDEN, error).hint(hint));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let authority =
                origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|parts| parts.1);
            if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                let error = format!("request of a page of {origin:?}, expected one of {host:?}");
                return Err(Refusal::new(StatusCode::FORBIDDEN, error));
            }
        }
        let is_open = page::PATHS.contains(&request.uri().path()) || request.uri().path() == "/healthz";
        match &self.token {
            Some(token) if !is_open => is_bearer(token, headers),
            _ => Ok(()),
        }
    }
}

fn is_bearer(token: &Token, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::unauthorized("no token, expected one"));
    };
    let bytes = value.as_bytes();
    let is_scheme = bytes.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    match is_scheme && token.is(bytes[7..].trim_ascii()) {
        true => Ok(()),
        false => Err(Refusal::unauthorized("wrong token")),
    }
}

/// `host` without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Lets a request in, or refuses it.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.guard.check(&request) {
        Ok(()) => next.run(request).await,
        // A body may follow that is not read.
        Err(refusal) if request.headers().contains_key(header::TRANSFER_ENCODING) => {
            refusal.closing().into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Nothing from elsewhere runs in the page, and nobody else's page shows what is here.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// Adds the headers that every answer carries.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
