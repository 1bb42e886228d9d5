//! TLS to the broker, by a relay inside this process.
//!
//! ```text
//! MQTT client ─► abstract Unix socket (this process only) ─► relay: rustls ─► broker
//! ```
//!
//! Two reasons. The client's own TLS needs `ring`, hence a C compiler for the board, and this program is built without
//! one. And pure-Rust providers differ in what they ask of a CPU: the Cortex-A53 and A72 of the Raspberry Pi 3 and 4 have
//! no AES instructions, without which `graviola` does not run. `rustls-rustcrypto` runs everywhere; it is young and was
//! not audited as a whole, so where that matters let a TLS proxy on the board speak for it.
//!
//! The broker's certificate must name the host and be signed by a known authority; nothing can switch that off.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::settings::{Broker, Settings};

/// For the connection and the handshake together.
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// For TLS' last words.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// Where Linux distributions keep the authorities that they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A relay that listens.
pub(crate) struct Relay {
    /// What the MQTT client connects to.
    pub(crate) path: String,
    error: Arc<Mutex<Option<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Starts to relay to `broker`.
    ///
    /// # Errors
    /// When certificates or the key cannot be read.
    pub(crate) fn start(broker: &Broker, settings: &Settings) -> Result<Self> {
        let connector = TlsConnector::from(Arc::new(config(settings)?));
        let name = ServerName::try_from(broker.host.clone())
            .with_context(|| format!("{} is no host name that a certificate can have", broker.host))?;
        let (listener, path) = listen()?;
        let error = Arc::new(Mutex::new(None));
        let task = tokio::spawn(serve(listener, connector, name, broker.clone(), Arc::clone(&error)));
        Ok(Self { path, error, task })
    }

    /// Why the last connection failed; once.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An abstract socket: it has no file, and goes with the process.
fn listen() -> Result<(UnixListener, String)> {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = format!("\0vgg-edge-mqtt-{}-{count}", std::process::id());
    Ok((UnixListener::bind(&path).context("cannot open a socket for TLS")?, path))
}

async fn serve(
    listener: UnixListener,
    connector: TlsConnector,
    name: ServerName<'static>,
    broker: Broker,
    error: Arc<Mutex<Option<String>>>,
) {
    while let Ok((mut client, _)) = listener.accept().await {
        // Any process may find the socket: only this one may speak through it.
        let ours = client.peer_cred().ok().and_then(|peer| peer.pid()).map(i64::from);
        if ours != Some(i64::from(std::process::id())) {
            continue;
        }
        let result = relay(&mut client, &connector, name.clone(), &broker).await;
        *error.lock().unwrap_or_else(PoisonError::into_inner) = result.err().map(|e| format!("{e:#}"));
        // Only now does the client see the end: the reason is there before it asks.
        drop(client);
    }
}

/// Carries one connection until either side ends it.
async fn relay(
    client: &mut UnixStream,
    connector: &TlsConnector,
    name: ServerName<'static>,
    broker: &Broker,
) -> Result<()> {
    let connect = async {
        let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
        stream.set_nodelay(true)?;
        connector.connect(name, stream).await.map_err(explain)
    };
    let server = timeout(CONNECT_TIME, connect).await.context("no answer in time")??;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = split(server);
    // Whichever side ends first ends both: a broker that hangs must not hold the next connection up. The client
    // notices by itself what has not arrived.
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
    let _ = timeout(FAREWELL_TIME, to_server.shutdown()).await;
    Ok(())
}

/// Certificate errors in plain words.
fn explain(error: std::io::Error) -> anyhow::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return error.into() };
    match why {
        // The second when another authority has the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            anyhow!("the broker's certificate is not signed by an authority of --mqtt-ca (or of the system)")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            anyhow!("the broker's certificate has expired, or this board's clock is wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            anyhow!("the broker's certificate is not valid yet, or this board's clock is wrong")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            anyhow!("the broker's certificate is for another host")
        }
        _ => anyhow!("the broker's certificate is refused: {why:?}"),
    }
}

fn config(settings: &Settings) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls_rustcrypto::provider()))
        .with_safe_default_protocol_versions()
        .context("cannot use TLS")?
        .with_root_certificates(roots(settings.ca.as_deref())?);
    Ok(match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("private key {}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .with_context(|| format!("certificate {}", cert.display()))?
        }
        _ => builder.with_no_client_auth(),
    })
}

/// The authorities in `ca`, or the system's.
fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        let system = SYSTEM_CA.iter().map(Path::new).find(|path| path.exists());
        let Some(system) = system else {
            bail!(
                "no certificates of authorities on this system, expected {}; or use --mqtt-ca",
                SYSTEM_CA[0]
            )
        };
        // Some of the many may be of a kind that is not known here.
        roots.add_parsable_certificates(certificates(system)?);
        return Ok(roots);
    };
    for certificate in certificates(ca)? {
        roots.add(certificate).with_context(|| format!("authority {}", ca.display()))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).with_context(|| format!("certificates {}", path.display()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.with_context(|| format!("certificates {}", path.display()))?;
    if all.is_empty() {
        bail!("certificates {}: none in the file, expected `-----BEGIN CERTIFICATE-----`", path.display());
    }
    Ok(all)
}
