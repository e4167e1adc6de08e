//! The health check of a service on hyper, in one thread, with a time limit for heads: `hyper-peer ADDRESS BODY`.

use std::convert::Infallible;
use std::env;
use std::io;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().expect("an address");
    let body = Bytes::from(arguments.next().expect("a body") + "\n");
    Builder::new_current_thread().enable_all().build()?.block_on(serve(address, body))
}

async fn serve(address: String, body: Bytes) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        // An error is a connection that is gone, or a shortage of descriptors.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let body = body.clone();
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a value"));
            async { Ok::<_, Infallible>(response) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}
