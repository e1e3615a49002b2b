//! The chart as the API server would get it: rendered by Helm, read as typed objects, then checked.

mod monitoring;
mod readme;
mod render;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};

use render::{NAMESPACE, Objects, RELEASE, render};

fn rendered(values: &[&str]) -> Objects {
    render(values).unwrap_or_else(|error| panic!("helm template {values:?}: {error}"))
}

#[test]
fn helm_lint_finds_nothing() {
    let lint = render::lint();
    let printed = String::from_utf8_lossy(&lint.stdout);
    assert!(
        lint.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&lint.stderr)
    );
}

/// What Helm must say when a value is wrong: the message names the value.
#[test]
fn a_wrong_value_is_refused_by_name() {
    let cases = [
        ("replcias=3", "replcias"),
        ("images.gatway=x", "gatway"),
        ("serviceAccount.nmae=x", "nmae"),
        ("resources.limit.memory=1Gi", "limit"),
        ("replicas=0", "replicas"),
        ("replicas=many", "replicas"),
        ("log.format=xml", "format"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespace=Not_A_Name", "watchNamespace"),
        ("adminPort=80", "adminPort"),
        ("metricsApi.enbled=true", "enbled"),
        ("metricsApi.port=443", "port"),
        ("monitoring.alerts=loud", "alerts"),
        ("networkPolicy.enbled=true", "enbled"),
        ("secretNamespaces={Not_A_Name}", "secretNamespaces"),
        (
            "serviceAccount.create=false",
            "serviceAccount.name is needed",
        ),
    ];
    for (value, named) in cases {
        let refused = render(&[value]).expect_err(value);
        assert!(
            refused.contains(named),
            "--set {value}: the message does not name {named}: {refused}"
        );
    }
}

/// What may be set, is taken.
#[test]
fn values_reach_the_pod() {
    let deployment: Deployment = rendered(&[
        "replicas=3",
        "images.operator=example.test/operator:v7",
        "images.gateway=example.test/gateway:8",
        "images.redis=example.test/redis:9",
        "watchNamespace=pushing",
        "log.format=text",
        "adminPort=9191",
        "imagePullSecrets[0].name=registry",
    ])
    .one("Deployment");
    let spec = deployment.spec.expect("a spec");
    assert_eq!(spec.replicas, Some(3));
    let pod = spec.template.spec.expect("a pod");
    let container = &pod.containers[0];
    assert_eq!(container.image.as_deref(), Some("example.test/operator:v7"));
    assert_eq!(
        pod.image_pull_secrets.expect("pull secrets")[0].name,
        "registry"
    );
    assert_eq!(
        container.ports.as_ref().expect("ports")[0].container_port,
        9191
    );
    let environment: Vec<(String, Option<String>)> = container
        .env
        .iter()
        .flatten()
        .map(|v| (v.name.clone(), v.value.clone()))
        .collect();
    let service: Service = rendered(&["watchNamespace=pushing"]).one("Service");
    let service = service.metadata.name.expect("a name");
    let admin_url = format!("http://{service}.{NAMESPACE}.svc:9191");
    for (name, value) in [
        ("WATCH_NAMESPACE", "pushing"),
        ("GATEWAY_IMAGE", "example.test/gateway:8"),
        ("REDIS_IMAGE", "example.test/redis:9"),
        ("ADMIN_LISTEN", "0.0.0.0:9191"),
        ("ADMIN_URL", &admin_url),
        ("LOG_FORMAT", "text"),
    ] {
        assert!(
            environment.contains(&(name.to_owned(), Some(value.to_owned()))),
            "{name} is not {value} in {environment:?}"
        );
    }
}

/// The *restricted* Pod Security Standard, and what it leaves out: a read-only root, probes, limits.
#[test]
fn every_pod_is_restricted() {
    let objects = rendered(&[]);
    for kind in ["StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"] {
        assert!(
            !objects.kinds().contains(&kind),
            "the chart has a {kind}, which this test does not read"
        );
    }
    let deployments: Vec<Deployment> = objects.of("Deployment");
    assert!(!deployments.is_empty());
    for deployment in deployments {
        let name = deployment.metadata.name.unwrap_or_default();
        let pod = deployment
            .spec
            .and_then(|spec| spec.template.spec)
            .expect("a pod template");
        let faults = faults_of_pod(&pod);
        assert!(faults.is_empty(), "pods of {name}: {faults:?}");
    }
}

fn faults_of_pod(pod: &PodSpec) -> Vec<String> {
    let mut faults = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let host = [pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true));
    demand(!host, "uses a namespace of the host");
    let security = pod.security_context.clone().unwrap_or_default();
    demand(security.run_as_non_root == Some(true), "may run as root");
    demand(
        security.run_as_user.is_some_and(|user| user > 0),
        "names no user",
    );
    let profile = security.seccomp_profile.map(|profile| profile.type_);
    demand(
        profile.as_deref() == Some("RuntimeDefault"),
        "has no seccomp profile",
    );
    let volumes = pod.volumes.iter().flatten();
    demand(
        volumes.clone().all(|v| v.host_path.is_none()),
        "mounts a path of the host",
    );
    for container in pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten())
    {
        let security = container.security_context.clone().unwrap_or_default();
        demand(
            security.allow_privilege_escalation == Some(false),
            "may gain privileges",
        );
        demand(security.privileged != Some(true), "is privileged");
        demand(
            security.read_only_root_filesystem == Some(true),
            "can write its root",
        );
        let capabilities = security.capabilities.unwrap_or_default();
        demand(
            capabilities.drop == Some(vec!["ALL".to_owned()]),
            "keeps capabilities",
        );
        demand(capabilities.add.is_none(), "adds capabilities");
        demand(container.liveness_probe.is_some(), "has no liveness probe");
        demand(
            container.readiness_probe.is_some(),
            "has no readiness probe",
        );
        let resources = container.resources.clone().unwrap_or_default();
        let limits = resources.limits.unwrap_or_default();
        demand(limits.contains_key("memory"), "has no memory limit");
        demand(
            resources.requests.is_some_and(|r| r.contains_key("cpu")),
            "requests no CPU",
        );
        let host_port = container
            .ports
            .iter()
            .flatten()
            .any(|port| port.host_port.is_some());
        demand(!host_port, "takes a port of the host");
    }
    faults
}

/// A guard on the test above: a pod that says nothing is not restricted.
#[test]
fn a_pod_that_says_nothing_has_faults() {
    let pod = PodSpec {
        containers: vec![Default::default()],
        ..Default::default()
    };
    assert!(faults_of_pod(&pod).len() >= 8, "{:?}", faults_of_pod(&pod));
}

#[test]
fn selectors_find_the_pods_and_never_change_with_the_version() {
    let objects = rendered(&["podLabels.team=platform"]);
    let deployment: Deployment = objects.one("Deployment");
    let spec = deployment.spec.expect("a spec");
    let labels = spec
        .template
        .metadata
        .and_then(|metadata| metadata.labels)
        .expect("labels");
    assert_eq!(labels.get("team").map(String::as_str), Some("platform"));
    for versioned in ["helm.sh/chart", "app.kubernetes.io/version"] {
        assert!(
            !labels.contains_key(versioned),
            "{versioned} in a pod restarts it with every chart"
        );
    }
    let services: Vec<Service> = objects.of("Service");
    assert_eq!(
        services.len(),
        2,
        "metrics of each pod, and the metrics API"
    );
    let budget: PodDisruptionBudget = objects.one("PodDisruptionBudget");
    let policy: NetworkPolicy = objects.one("NetworkPolicy");
    let selectors = [
        spec.selector.match_labels,
        budget
            .spec
            .and_then(|spec| spec.selector)
            .and_then(|selector| selector.match_labels),
        policy
            .spec
            .and_then(|spec| spec.pod_selector)
            .and_then(|selector| selector.match_labels),
    ];
    let services = services.into_iter().map(|service| service.spec?.selector);
    for selector in services.chain(selectors) {
        let selector = selector.expect("a selector");
        assert!(
            selector
                .iter()
                .all(|wanted| labels.iter().any(|label| label == wanted)),
            "{selector:?}"
        );
        assert!(!selector.contains_key("helm.sh/chart"));
        assert_eq!(
            selector
                .get("app.kubernetes.io/instance")
                .map(String::as_str),
            Some(RELEASE)
        );
    }
}

#[test]
fn only_the_monitoring_keda_and_the_api_server_reach_the_operator() {
    let from = |values: &[&str]| {
        let alone = ["networkPolicy.kedaNamespaces=null"];
        let policy: NetworkPolicy = rendered(&[&alone, values].concat()).one("NetworkPolicy");
        let rules = policy.spec.and_then(|spec| spec.ingress);
        rules.map(|rules| serde_json::to_string(&rules).expect("JSON"))
    };
    let expected = r#"[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["watch","look"]}]}}],"ports":[{"port":"admin","protocol":"TCP"}]}]"#;
    let named = "networkPolicy.monitoringNamespaces={watch,look}";
    let off = "metricsApi.enabled=false";
    assert_eq!(from(&[named, off]).as_deref(), Some(expected));
    // No rule: nobody. A rule without a peer is everybody.
    let nobody = "networkPolicy.monitoringNamespaces=null";
    assert_eq!(from(&[nobody, off]), None);
    let metrics_api = r#"{"ports":[{"port":"metrics-api","protocol":"TCP"}]}"#;
    assert_eq!(from(&[nobody]), Some(format!("[{metrics_api}]")));
    let both = format!("[{metrics_api},{}", &expected[1..]);
    assert_eq!(from(&[named]), Some(both));
    let keda = "networkPolicy.kedaNamespaces={look,keda}";
    let all = expected.replace(r#"["watch","look"]"#, r#"["watch","look","keda"]"#);
    assert_eq!(from(&[named, off, keda]), Some(all));
    let only = expected.replace(r#"["watch","look"]"#, r#"["look","keda"]"#);
    assert_eq!(from(&[nobody, off, keda]), Some(only));
    let without = rendered(&["networkPolicy.enabled=false"]);
    assert!(!without.kinds().contains(&"NetworkPolicy"));
}

/// The rights on Secrets in each role: where, and the verbs.
fn rules_on_secrets(objects: &Objects) -> Vec<(String, Vec<String>)> {
    let cluster = objects
        .of::<ClusterRole>("ClusterRole")
        .into_iter()
        .map(|role| ("everywhere".to_owned(), role.rules));
    let local = objects.of::<Role>("Role").into_iter().map(|role| {
        let namespace = role.metadata.namespace.unwrap_or_default();
        (namespace, role.rules)
    });
    cluster
        .chain(local)
        .flat_map(|(place, rules)| {
            let of_secrets = rules.unwrap_or_default().into_iter().filter(|rule| {
                let resources = rule.resources.iter().flatten();
                resources.into_iter().any(|resource| resource == "secrets")
            });
            of_secrets
                .map(|rule| (place.clone(), rule.verbs))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Who may list or watch Secrets, or delete them all at once, has every one of them with one request.
#[test]
fn secrets_are_reached_by_name_only_and_only_where_allowed() {
    let by_name = || ["get", "create", "patch"].map(String::from).to_vec();
    // The last of them holds its certificate.
    for (values, places) in [
        (&[][..], &["everywhere", NAMESPACE][..]),
        (&["metricsApi.enabled=false"], &["everywhere"]),
        (&["watchNamespace=pushing"], &["pushing"]),
        (
            &["secretNamespaces={shop,news}"],
            &[NAMESPACE, "shop", "news"],
        ),
    ] {
        let found = rules_on_secrets(&rendered(values));
        let expected: Vec<_> = places
            .iter()
            .map(|place| ((*place).to_owned(), by_name()))
            .collect();
        assert_eq!(found, expected, "{values:?}");
    }
    let both = ["watchNamespace=pushing", "secretNamespaces={shop}"];
    let refused = render(&both).expect_err("they contradict each other");
    assert!(refused.contains("secretNamespaces is for"), "{refused}");
}

/// The group is the cluster's: who looks after one namespace has neither the port nor a right to it.
#[test]
fn the_metrics_api_is_served_cluster_wide_or_not_at_all() {
    let traces = |values: &[&str]| {
        let objects = rendered(values);
        let deployment: Deployment = objects.one("Deployment");
        let text = serde_json::to_string(&deployment).expect("JSON");
        let names = objects.all().iter().filter(|object| {
            let name = object["metadata"]["name"].as_str();
            name.is_some_and(|name| name.ends_with("-metrics-api"))
        });
        (text.contains("METRICS_API_LISTEN"), names.count())
    };
    assert_eq!(traces(&[]), (true, 5));
    assert_eq!(traces(&["metricsApi.enabled=false"]), (false, 0));
    assert_eq!(traces(&["watchNamespace=pushing"]), (false, 0));
}

fn rules_of(objects: &Objects) -> Vec<PolicyRule> {
    let cluster = objects
        .of::<ClusterRole>("ClusterRole")
        .into_iter()
        .flat_map(|role| role.rules.unwrap_or_default());
    let local = objects
        .of::<Role>("Role")
        .into_iter()
        .flat_map(|role| role.rules.unwrap_or_default());
    cluster.chain(local).collect()
}

/// Rights that let the operator's account become another, or everything.
#[test]
fn no_rule_is_wider_than_its_work() {
    for mode in [&[][..], &["watchNamespace=pushing"][..]] {
        let rules = rules_of(&rendered(mode));
        assert!(!rules.is_empty(), "{mode:?}: the operator may do nothing");
        for rule in rules {
            let all = [
                Some(rule.verbs.clone()),
                rule.api_groups.clone(),
                rule.resources.clone(),
            ];
            for word in all.into_iter().flatten().flatten() {
                assert!(word != "*", "{mode:?}: a wildcard in {rule:?}");
                let forbidden = [
                    "pods/exec",
                    "pods/attach",
                    "pods/portforward",
                    "nodes/proxy",
                    "serviceaccounts/token",
                ];
                assert!(!forbidden.contains(&word.as_str()), "{mode:?}: {word}");
                assert!(
                    !["escalate", "bind", "impersonate"].contains(&word.as_str()),
                    "{mode:?}: {word}"
                );
            }
        }
    }
}

#[test]
fn one_namespace_needs_no_cluster_role_on_secrets() {
    let objects = rendered(&["watchNamespace=pushing"]);
    for role in objects.of::<ClusterRole>("ClusterRole") {
        for rule in role.rules.unwrap_or_default() {
            let resources = rule.resources.unwrap_or_default();
            assert!(
                !resources.contains(&"secrets".to_owned()),
                "{:?}",
                role.metadata.name
            );
        }
    }
    let roles: Vec<Role> = objects.of("Role");
    let watched = roles
        .iter()
        .filter(|role| role.metadata.namespace.as_deref() == Some("pushing"));
    assert!(
        watched.count() > 0,
        "the operator has a Role in the namespace that it watches"
    );
}

/// A binding to an account that does not exist is a silent refusal of everything.
#[test]
fn every_binding_names_the_operators_account_and_a_role_that_exists() {
    for mode in [
        &[][..],
        &["watchNamespace=pushing"],
        &["secretNamespaces={shop}"],
    ] {
        let objects = rendered(mode);
        let account: ServiceAccount = objects.one("ServiceAccount");
        let deployment: Deployment = objects.one("Deployment");
        let pod = deployment
            .spec
            .and_then(|spec| spec.template.spec)
            .expect("a pod");
        assert_eq!(pod.service_account_name, account.metadata.name);
        let cluster = objects
            .of::<ClusterRoleBinding>("ClusterRoleBinding")
            .into_iter();
        let local = objects.of::<RoleBinding>("RoleBinding").into_iter();
        let bindings: Vec<_> = cluster
            .map(|binding| (binding.role_ref, binding.subjects))
            .chain(local.map(|binding| (binding.role_ref, binding.subjects)))
            .collect();
        assert!(
            !bindings.is_empty(),
            "{mode:?}: the operator is bound to nothing"
        );
        for (role, subjects) in bindings {
            let subject = &subjects.expect("subjects")[0];
            assert_eq!(
                Some(&subject.name),
                account.metadata.name.as_ref(),
                "{mode:?}"
            );
            assert_eq!(subject.namespace.as_deref(), Some(NAMESPACE), "{mode:?}");
            let exists = objects.all().iter().any(|object| {
                object["kind"] == role.kind && object["metadata"]["name"] == role.name
            });
            assert!(exists, "{mode:?}: no {} {}", role.kind, role.name);
        }
    }
}
