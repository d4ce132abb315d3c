//! A scripted server that speaks TLS as `crm.example`, and may ask for a client certificate.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Certificate of an authority that signed [`SERVER`] for `crm.example`. Both and the key are for
/// tests only, and valid for a century.
pub(super) const CA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/subscriber/attempt/tests/tls/ca.pem"
);
const SERVER: &[u8] = include_bytes!("tls/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("tls/server.key");

pub(super) struct TlsReceiver {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl TlsReceiver {
    /// Starts a receiver that answers one of `statuses` to each request, and the last of them to all
    /// further requests. It asks for certificates of the authority `clients`.
    pub(super) async fn start(
        clients: Option<CertificateDer<'static>>,
        statuses: &'static [u16],
    ) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the versions are known");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let certificate = CertificateDer::from_pem_slice(SERVER).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).expect("a key");
        let config = builder.with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("they fit")));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&seen), statuses));
            }
        });
        Self {
            port,
            requests,
            serving,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("https://crm.example:{}/hook", self.port)
    }

    /// Returns heads and bodies of all requests.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    statuses: &'static [u16],
) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                return;
            }
        }
        let number = {
            let mut seen = seen.lock();
            seen.push(String::from_utf8_lossy(&request).into_owned());
            seen.len()
        };
        let status = statuses.get(number - 1).or(statuses.last());
        let status = status.expect("at least one");
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        let sent = stream.write_all(answer.as_bytes()).await;
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
