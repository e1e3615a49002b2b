//! The one thing that all of this is for: a message published on one pod reaches clients on others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::gateway::{CLIENTS_PORT, PodAddress};
use crate::push_client::PushClient;

/// A client whose subscription the gateway has acknowledged.
pub struct Subscriber {
    pub pod: String,
    client: PushClient<DuplexStream>,
}

/// The message as one subscriber got it.
#[derive(Debug)]
pub struct Arrival {
    pub pod: String,
    /// From the beginning of the publish to the arrival, port-forwards in both directions included.
    pub after: Duration,
    pub message: Value,
}

/// One client on each pod, subscribed.
pub async fn subscribe_through(pods: &[PodAddress], channel: &str) -> Result<Vec<Subscriber>> {
    try_join_all(pods.iter().map(|pod| async move {
        let stream = pod.stream(CLIENTS_PORT).await?;
        let mut client = PushClient::connect(stream)
            .await
            .with_context(|| format!("connect to pod {}", pod.pod))?;
        client
            .subscribe(channel)
            .await
            .with_context(|| format!("subscribe to {channel} through pod {}", pod.pod))?;
        Ok(Subscriber {
            pod: pod.pod.clone(),
            client,
        })
    }))
    .await
}

/// Publishes over the HTTP API of one pod.
pub async fn publish(pod: &PodAddress, key: &str, channel: &str, data: &Value) -> Result<()> {
    let request = Request::post("/api/publish")
        .header("host", &pod.pod)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(json!({"channel": channel, "data": data}).to_string())?;
    let answer = pod.request(CLIENTS_PORT, request).await?;
    ensure!(
        answer.status() == StatusCode::OK,
        "publish through pod {}: {} {}",
        pod.pod,
        answer.status(),
        answer.body()
    );
    Ok(())
}

/// Publishes once through `publisher` and waits until every subscriber has it.
pub async fn publish_and_receive(
    publisher: &PodAddress,
    key: &str,
    (channel, data): (&str, &Value),
    subscribers: &mut [Subscriber],
) -> Result<Vec<Arrival>> {
    let begun = Instant::now();
    let arrivals = try_join_all(subscribers.iter_mut().map(|subscriber| async move {
        let message = subscriber
            .client
            .receive("chat", Duration::from_secs(10))
            .await
            .with_context(|| format!("the subscriber of {channel} on pod {}", subscriber.pod))?;
        Ok(Arrival {
            pod: subscriber.pod.clone(),
            after: begun.elapsed(),
            message,
        })
    }));
    let (arrivals, ()) = tokio::try_join!(arrivals, publish(publisher, key, channel, data))?;
    for arrival in &arrivals {
        ensure!(
            arrival.message["channel"] == channel && arrival.message["message"] == *data,
            "pod {} delivered {} instead of {data} on {channel}",
            arrival.pod,
            arrival.message
        );
    }
    Ok(arrivals)
}
