use serde_json::json;

use super::*;

fn place() -> Place {
    Place {
        listen: String::new(),
        service: "ours".into(),
        namespace: "system".into(),
        owner: "ours".into(),
        selector: String::new(),
        pod: String::new(),
    }
}

fn all(bundle: &str) -> Vec<APIService> {
    Version::ALL
        .map(|version| wanted(&place(), version, bundle, "uid-1"))
        .into()
}

/// As the API server returns it.
fn stored(changes: &[(&str, serde_json::Value)]) -> APIService {
    let mut object = serde_json::to_value(all("bundle").remove(0)).unwrap();
    object["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]});
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn only_what_is_missing_or_differs_is_written_and_nothing_over_another_adapter() {
    let second = || {
        let mut second = all("bundle").remove(1);
        second.status = stored(&[]).status;
        second
    };
    let elsewhere = ("/spec/service/namespace", json!("monitoring"));
    for (what, found, expected) in [
        ("free", vec![], Ok(vec!["v1beta1", "v1beta2"])),
        ("half", vec![stored(&[])], Ok(vec!["v1beta2"])),
        ("there", vec![stored(&[]), second()], Ok(vec![])),
        (
            "another bundle",
            vec![stored(&[("/spec/caBundle", json!("AAAA"))]), second()],
            Ok(vec!["v1beta1"]),
        ),
        (
            "unverified",
            vec![
                stored(&[("/spec/insecureSkipTLSVerify", json!(true))]),
                second(),
            ],
            Ok(vec!["v1beta1"]),
        ),
        (
            "spelt out",
            vec![
                stored(&[("/spec/insecureSkipTLSVerify", json!(false))]),
                second(),
            ],
            Ok(vec![]),
        ),
        (
            "of a release before",
            vec![
                stored(&[("/metadata/ownerReferences", json!([]))]),
                second(),
            ],
            Ok(vec!["v1beta1"]),
        ),
        (
            "half of it another adapter's",
            vec![stored(&[elsewhere.clone()]), second()],
            Err((
                "Service monitoring/ours",
                vec!["v1beta2.custom.metrics.k8s.io"],
            )),
        ),
        (
            "another adapter's",
            vec![stored(&[elsewhere])],
            Err(("Service monitoring/ours", vec![])),
        ),
        (
            "the API server's own",
            vec![stored(&[("/spec/service", json!(null))])],
            Err(("the API server itself", vec![])),
        ),
    ] {
        let seen = match step(&found, all("bundle"), &place()) {
            Step::Apply(services) => Ok(services
                .iter()
                .map(|s| s.spec.clone().unwrap().version.unwrap())
                .collect::<Vec<_>>()),
            Step::Leave { foreign, ours } => Err((foreign, ours)),
        };
        let expected = expected
            .map(|versions| versions.into_iter().map(str::to_owned).collect::<Vec<_>>())
            .map_err(|(by, ours)| {
                let foreign = Registration::Foreign {
                    name: "v1beta1.custom.metrics.k8s.io".into(),
                    by: by.into(),
                };
                (foreign, ours.into_iter().map(str::to_owned).collect())
            });
        assert_eq!(seen, expected, "{what}");
    }
}

#[test]
fn the_api_server_says_whether_it_reaches_us() {
    let condition = |status: &str| {
        let message = "no response from https://10.0.0.1:6443";
        json!([{"type": "Available", "status": status, "message": message}])
    };
    let cut_off = stored(&[("/status/conditions", condition("False"))]);
    let why = "v1beta1.custom.metrics.k8s.io: no response from https://10.0.0.1:6443";
    for (found, expected) in [
        (vec![stored(&[]), stored(&[])], Registration::Registered),
        (vec![stored(&[])], Registration::NotLookedYet),
        (vec![], Registration::NotLookedYet),
        (all("bundle"), Registration::NotLookedYet),
        (
            vec![stored(&[]), cut_off],
            Registration::Unavailable(why.into()),
        ),
    ] {
        assert_eq!(availability(&found), expected);
    }
}

#[test]
fn a_bundle_is_known_when_all_of_them_have_it() {
    assert!(knows(&all("bundle"), "bundle"));
    assert!(!knows(&all("bundle"), "another"));
    assert!(!knows(&all("bundle")[..1], "bundle"));
    assert!(!knows(&[], "bundle"));
}
