use serde_json::value::RawValue;

use super::*;

impl Stage {
    async fn raw(&self, kind: MessageKind, channel: &str, data: &str) {
        let data = RawValue::from_string(data.to_owned()).unwrap().into();
        let message = Message {
            data,
            ..message(kind, "", None)
        };
        let delivery = Delivery {
            channel: ChannelName::parse(channel).unwrap(),
            message,
            position: None,
        };
        self.events.send(Event::Delivery(delivery)).await.unwrap();
    }
}

#[tokio::test]
async fn channels_are_given_to_where_a_message_would_go() {
    let mut stage = Stage::new().await;
    stage.interest(1, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("1: live news 1").await;
    for (kind, data, expected) in [
        (
            MessageKind::Subscribe,
            r#"["a","b"]"#,
            "1: Subscribe news a b",
        ),
        (
            MessageKind::Unsubscribe,
            r#"["a"]"#,
            "1: Unsubscribe news a",
        ),
    ] {
        stage.raw(kind, "news", data).await;
        assert_eq!(stage.told(expected).await, [expected]);
    }
    // No list of names: nothing follows from it.
    stage
        .raw(MessageKind::Subscribe, "news", r#"["a",""]"#)
        .await;
    stage.delivery("news", "on", None).await;
    let expected = r#"1: deliver news "on""#;
    assert_eq!(stage.told(expected).await, [expected]);
}
