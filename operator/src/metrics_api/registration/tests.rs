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

fn second() -> APIService {
    let mut second = all("bundle").remove(1);
    second.status = stored(&[]).status;
    second
}

#[test]
fn only_what_is_missing_or_differs_is_written() {
    let spelt_out = ("/spec/insecureSkipTLSVerify", json!(false));
    let unverified = ("/spec/insecureSkipTLSVerify", json!(true));
    let other_bundle = ("/spec/caBundle", json!("AAAA"));
    let other_release = ("/metadata/ownerReferences", json!([]));
    for (found, expected) in [
        (vec![], vec!["v1beta1", "v1beta2"]),
        (vec![stored(&[])], vec!["v1beta2"]),
        (vec![stored(&[]), second()], vec![]),
        (vec![stored(&[other_bundle]), second()], vec!["v1beta1"]),
        (vec![stored(&[unverified]), second()], vec!["v1beta1"]),
        (vec![stored(&[spelt_out]), second()], vec![]),
        (vec![stored(&[other_release]), second()], vec!["v1beta1"]),
    ] {
        let Step::Apply(services) = step(&found, all("bundle"), &place()) else {
            panic!("all of it is ours: {found:?}");
        };
        let versions = services.iter().map(|service| service.spec.clone());
        let versions: Vec<_> = versions
            .map(|spec| spec.unwrap().version.unwrap())
            .collect();
        assert_eq!(versions, expected, "{found:?}");
    }
}

#[test]
fn nothing_is_written_over_another_adapter_and_no_half_stays() {
    let elsewhere = ("/spec/service/namespace", json!("monitoring"));
    for (found, by, ours) in [
        (
            vec![stored(std::slice::from_ref(&elsewhere)), second()],
            "Service monitoring/ours",
            vec!["v1beta2.custom.metrics.k8s.io"],
        ),
        (
            vec![stored(&[elsewhere])],
            "Service monitoring/ours",
            vec![],
        ),
        (
            vec![stored(&[("/spec/service", json!(null))])],
            "the API server itself",
            vec![],
        ),
    ] {
        let expected = Step::Leave {
            foreign: Registration::Foreign {
                name: "v1beta1.custom.metrics.k8s.io".into(),
                by: by.into(),
            },
            ours: ours.into_iter().map(str::to_owned).collect(),
        };
        assert_eq!(step(&found, all("bundle"), &place()), expected);
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
