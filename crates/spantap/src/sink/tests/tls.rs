//! The certificates from the environment, over HTTP and gRPC.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::grpc_backend::GrpcBackend;
use super::http_backend::HttpBackend;
use super::*;

/// A certificate authority, with a server and a client that it has signed. The files of the client and the
/// authority are named as in the environment.
struct Pki {
    folder: tempfile::TempDir,
    server: Arc<ServerConfig>,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::from_params(&params, &key);
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
        };
        let (certificate, server_key) = signed("127.0.0.1");
        let (client, client_key) = signed("spantap");

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| std::fs::write(folder.path().join(name), pem).unwrap();
        write("authority", authority.pem());
        write("client", client.pem());
        write("key", client_key.serialize_pem());

        super::export::http::install_cryptography();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let mut server = ServerConfig::builder()
            .with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(server_key.serialize_der().into()),
            )
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { folder, server: Arc::new(server) }
    }

    /// Terminates TLS in front of the backend at `port`.
    async fn before(&self, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = TlsAcceptor::from(self.server.clone());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A peer that is not trusted, or that does not trust us, fails here.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut backend = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut backend).await });
            }
        });
        address.port()
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_and_identity_come_from_the_environment() {
    let pki = Pki::new();
    let (http, grpc) = (HttpBackend::start([]), GrpcBackend::start([]));
    // A backend with only HTTP/1.1 must not be asked for h2.
    let (http_port, grpc_port) = (pki.before(http.port).await, pki.before(grpc.port).await);
    let targets =
        [format!("otlp=https://127.0.0.1:{http_port}"), format!("otlp=grpcs://127.0.0.1:{grpc_port}")];
    let (authority, client, key) = (pki.file("authority"), pki.file("client"), pki.file("key"));
    let all = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*authority),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*client),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &*key),
    ];
    let fixture = Fixture::open(&targets, &all, None);
    fixture.sinks.push(&chunk(0..5));
    assert_eq!(fixture.finish().await, [""; 0]);
    let expected: Vec<u64> = (0..5).collect();
    assert_eq!((http.accepted(), grpc.accepted()), (expected.clone(), expected));

    // Without the authority or the client certificate nothing is sent.
    for (environment, why) in [(&all[1..], "UnknownIssuer"), (&all[..1], "")] {
        let fixture = Fixture::open(&targets, environment, None);
        fixture.sinks.push(&chunk(5..6));
        let failing = |stats: &SinkStats| matches!(&stats.state, State::Failing { why: said, .. } if said.contains(why));
        wait_until("both fail", || fixture.sinks.stats().iter().all(failing)).await;
    }
    assert_eq!((http.received().len(), grpc.received().len()), (1, 1));
}
