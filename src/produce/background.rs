//! A producer inside a program that does something else: for examples and first steps.

use super::{Pace, ProducerStats, PurchasesConfig, Users, serve};
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
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let listen = listener.local_addr()?;
    let config = PurchasesConfig {
        listen,
        pace: Pace::PerSecond(per_second),
        users: Users::Chapter,
        seed: 1,
        total: None,
        acknowledge: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("producer".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    serve(listener, config, Arc::<ProducerStats>::default(), CancellationToken::new()).await;
                }
                Err(error) => tracing::error!(%error, "the producer could not start"),
            }
        });
    })?;
    Ok(listen)
}
