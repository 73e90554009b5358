//! A gRPC backend with scripted answers. It speaks HTTP/2 itself, so that the tests see the frames as any server
//! would.

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Response};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Status;

use super::http_backend::numbers_of;

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Message(ExportTraceServiceResponse),
    Status(Status),
    /// Resets the stream.
    Reset,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// Decompressed.
    pub(super) message: Vec<u8>,
    pub(super) taken: bool,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    /// Larger messages are answered with this status.
    largest: Option<(usize, Status)>,
    received: Vec<Received>,
}

/// Answers as scripted, then with an empty message.
#[derive(Clone)]
pub(super) struct GrpcBackend {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
}

impl GrpcBackend {
    pub(super) fn start(script: impl Into<Vec<Reply>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Accepts messages up to `largest` bytes, and answers others with `status`.
    pub(super) fn limited(largest: usize, status: Status) -> Self {
        let backend = Self::start([]);
        backend.state.lock().unwrap().largest = Some((largest, status));
        backend
    }

    pub(super) fn on(listener: TcpListener, script: impl Into<Vec<Reply>>) -> Self {
        let state = State { script: script.into().into(), ..Default::default() };
        let backend =
            Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accepting = backend.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        backend
    }

    pub(super) fn otlp(&self) -> String {
        format!("otlp=grpc://127.0.0.1:{}", self.port)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The spans of the accepted requests.
    pub(super) fn accepted(&self) -> Vec<u64> {
        let requests = self.received().into_iter().filter(|request| request.taken);
        requests.flat_map(|request| numbers_of(&request.message)).collect()
    }

    async fn serve(self, stream: tokio::net::TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(self.clone().answer(request, respond));
        }
    }

    async fn answer(self, request: ::http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let mut frame = Vec::new();
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            frame.extend_from_slice(&part);
        }
        let reply = {
            let mut state = self.state.lock().unwrap();
            let message = unframed(&frame);
            let reply = match &state.largest {
                Some((largest, status)) if message.len() > *largest => Reply::Status(status.clone()),
                _ => state.script.pop_front().unwrap_or(Reply::Message(Default::default())),
            };
            let taken = matches!(reply, Reply::Message(_));
            let path = head.uri.path().to_owned();
            state.received.push(Received { path, headers: head.headers, message, taken });
            reply
        };
        let response = Response::builder().header("content-type", "application/grpc");
        match reply {
            Reply::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            Reply::Status(status) => {
                let mut response = response.body(()).unwrap();
                status.add_header(response.headers_mut()).unwrap();
                respond.send_response(response, true).unwrap();
            }
            Reply::Message(message) => {
                let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
                let message = message.encode_to_vec();
                let length = (message.len() as u32).to_be_bytes();
                stream.send_data([&[0][..], &length, &message].concat().into(), false).unwrap();
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                stream.send_trailers(trailers.into_iter().collect()).unwrap();
            }
        }
    }
}

/// Decodes a gRPC message: whether it is compressed, its length, its bytes.
fn unframed(frame: &[u8]) -> Vec<u8> {
    let length = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), length + 5);
    if frame[0] == 0 {
        return frame[5..].to_vec();
    }
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(&frame[5..]).read_to_end(&mut message).unwrap();
    message
}
