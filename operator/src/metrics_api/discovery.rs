//! What the group has, in the words of the API's discovery and of OpenAPI. Pure.

use serde_json::{Value, json};

use super::request::{GROUP, Metric, PODS, PUSH_CLUSTERS, Version};

fn group_version(version: Version) -> String {
    format!("{GROUP}/{}", version.as_str())
}

#[must_use]
pub fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]})
}

#[must_use]
pub fn group() -> Value {
    let versions = [Version::V1beta2, Version::V1beta1];
    let entry = |version: Version| json!({"groupVersion": group_version(version), "version": version.as_str()});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": versions.map(entry),
        "preferredVersion": entry(Version::V1beta2),
    })
}

#[must_use]
pub fn resources(version: Version) -> Value {
    let resource = |of: &str, metric: Metric| {
        json!({
            "name": format!("{of}/{}", metric.as_str()),
            "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"],
        })
    };
    let resources: Vec<Value> = [PUSH_CLUSTERS, PODS]
        .into_iter()
        .flat_map(|of| Metric::ALL.map(|metric| resource(of, metric)))
        .collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(version), "resources": resources,
    })
}

/// The API server merges it into its own; what is not there is missed by nobody who reads metrics.
#[must_use]
pub fn open_api_v2() -> Value {
    json!({"swagger": "2.0", "info": {"title": GROUP, "version": "v1beta2"}, "paths": {}, "definitions": {}})
}

#[must_use]
pub fn open_api_v3() -> Value {
    let entries = Version::ALL.map(|version| {
        let path = format!("apis/{}", group_version(version));
        // Another hash would make the API server fetch it again.
        let url = format!("/openapi/v3/{path}?hash={}", version.as_str());
        (path, json!({"serverRelativeURL": url}))
    });
    json!({"paths": serde_json::Map::from_iter(entries)})
}

#[must_use]
pub fn open_api_v3_of(version: Version) -> Value {
    let of = group_version(version);
    let parameters = ["namespace", "name"].map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let path = |object: &str, metric: Metric| {
        (
            format!(
                "/apis/{of}/namespaces/{{namespace}}/{object}/{{name}}/{}",
                metric.as_str()
            ),
            json!({"get": {
                "description": format!("{} of one object", metric.as_str()),
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}},
            }}),
        )
    };
    let paths = [PUSH_CLUSTERS, PODS]
        .into_iter()
        .flat_map(|object| Metric::ALL.map(|metric| path(object, metric)));
    json!({
        "openapi": "3.0.0", "info": {"title": of, "version": version.as_str()},
        "paths": serde_json::Map::from_iter(paths),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};

    use super::*;

    #[test]
    fn each_version_has_every_metric_of_both_kinds() {
        for version in Version::ALL {
            let list: APIResourceList = serde_json::from_value(resources(version)).unwrap();
            assert_eq!(list.group_version, group_version(version));
            let names: Vec<&str> = list.resources.iter().map(|r| r.name.as_str()).collect();
            for metric in Metric::ALL {
                for of in ["pushclusters.pushcluster.io", "pods"] {
                    let name = format!("{of}/{}", metric.as_str());
                    assert!(names.contains(&&*name), "{name} in {names:?}");
                }
            }
            assert!(
                list.resources
                    .iter()
                    .all(|r| r.namespaced && r.verbs == ["get"])
            );
            let paths = open_api_v3_of(version)["paths"].as_object().unwrap().len();
            assert_eq!(paths, names.len());
        }
        let groups: APIGroupList = serde_json::from_value(groups()).unwrap();
        let preferred = groups.groups[0].preferred_version.clone().unwrap();
        assert_eq!(preferred.group_version, "custom.metrics.k8s.io/v1beta2");
    }
}
