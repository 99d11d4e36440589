//! Producers inside a program that does something else: for examples and first steps.

use super::{ClusterPoints, LinearPoints, Lines, MadeConfig, Pace, ProducerStats, PurchaseStream, Users, serve_lines};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Sends purchases, `user,product,price`, to whoever connects to the address that it gives back, for as long as the
/// program runs; plain lines, so many a second.
///
/// # Errors
/// When there is no port, or no thread.
pub fn purchases_in_background(per_second: f64) -> io::Result<SocketAddr> {
    in_background(PurchaseStream::new(&Users::Chapter, 1), per_second)
}

/// The same with points of a linear model, `label<TAB>x1,x2,..`, without noise: the chapter's `StreamingModelProducer`.
///
/// # Errors
/// When there is no port, or no thread.
pub fn points_in_background(features: usize, per_second: f64) -> io::Result<SocketAddr> {
    in_background(LinearPoints::new(features, 1, 0.0, 0.0), per_second)
}

/// The same with points around so many centres, `cluster<TAB>x1,x2,..`, which stand off them by 1 or so.
///
/// # Errors
/// When there is no port, or no thread.
pub fn clusters_in_background(clusters: usize, features: usize, per_second: f64) -> io::Result<SocketAddr> {
    in_background(ClusterPoints::new(clusters, features, 1, 1.0, 0.0), per_second)
}

fn in_background(lines: impl Lines + 'static, per_second: f64) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let listen = listener.local_addr()?;
    let config = MadeConfig { pace: Pace::PerSecond(per_second), seed: 1, total: None, acknowledge: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("producer".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let (stats, stop) = (Arc::<ProducerStats>::default(), CancellationToken::new());
                    serve_lines(listener, Arc::new(lines), config, stats, stop).await;
                }
                Err(error) => tracing::error!(%error, "the producer could not start"),
            }
        });
    })?;
    Ok(listen)
}
