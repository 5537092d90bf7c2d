//! The chart: what Helm makes of it, and what Kubernetes would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cairn_testkit::not_tested;
use cairn_tests::files;
use serde_json::Value;

use super::reading::{documents, list, python, run, sources, succeeded};
use super::{SECRETS, USER};

#[test]
fn the_chart_renders_and_its_objects_fit_kubernetes() {
    let Some(rendered) = rendered("the chart against Helm and the schemas of Kubernetes") else { return };
    let kinds = |name: &str| -> BTreeSet<String> {
        rendered[name].iter().map(|object| object["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    let embedded = kinds("embedded.yaml");
    assert!(embedded.contains("StatefulSet") && !embedded.contains("Deployment"), "a log needs its volume");
    assert!(kinds("one-host.yaml").is_superset(&["Deployment".to_owned(), "Ingress".to_owned()].into()));
    let all = ["HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "StatefulSet"];
    let scaled = kinds("scale-out.yaml");
    assert!(all.iter().all(|kind| scaled.contains(*kind)), "{scaled:?}");
}

#[test]
fn pods_have_no_rights_and_no_variables_of_kubernetes() {
    let Some(rendered) = rendered("what the chart's pods may do") else { return };
    for (values, object) in objects(&rendered) {
        let Some(pod) = pod(object) else { continue };
        let name = format!("{values}: {}", object["metadata"]["name"]);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        // CAIRN_PORT and its like would be unknown settings, and the node would not start.
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["runAsUser"].to_string(), USER, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in containers(pod) {
            let name = format!("{name}/{}", container["name"]);
            let rights = &container["securityContext"];
            assert_eq!(rights["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(rights["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
            for variable in list(&container["env"]) {
                let variable = variable["name"].as_str().expect("a name");
                assert!(!SECRETS.contains(&variable), "{name} has {variable} in the open");
            }
            for mount in list(&container["volumeMounts"]) {
                let claims = list(&object["spec"]["volumeClaimTemplates"]);
                let known = |volume: &&Value| {
                    volume["name"] == mount["name"] || volume["metadata"]["name"] == mount["name"]
                };
                assert!(
                    list(&pod["volumes"]).iter().chain(&claims).any(|volume| known(&volume)),
                    "{name}: {mount}"
                );
            }
        }
    }
}

#[test]
fn the_chart_probes_what_the_programs_answer_and_selects_its_own_pods() {
    let Some(rendered) = rendered("the chart's probes and selectors") else { return };
    let sources = sources();
    for (values, object) in objects(&rendered) {
        let name = format!("{values}: {} {}", object["kind"], object["metadata"]["name"]);
        if let Some(pod) = pod(object).filter(|_| object["kind"] != "Pod") {
            for container in list(&pod["containers"]) {
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    let asked = &container[probe]["httpGet"];
                    let path = asked["path"].as_str().unwrap_or_else(|| panic!("{name} has no {probe}"));
                    assert!(sources.contains(&format!("path = \"{path}\"")), "{name}: {path}");
                    let ports = list(&container["ports"]);
                    assert!(ports.iter().any(|port| port["name"] == asked["port"]), "{name}: {probe}");
                }
            }
            assert!(selects(&object["spec"]["selector"]["matchLabels"], object), "{name} selects its own pods");
        }
        if object["kind"] == "Service" {
            let chosen: Vec<&Value> = rendered[values]
                .iter()
                .filter(|other| other["kind"] != "Pod" && pod(other).is_some())
                .filter(|other| selects(&object["spec"]["selector"], other))
                .collect();
            assert_eq!(chosen.len(), 1, "{name} leads to one set of pods");
        }
        if object["kind"] == "HorizontalPodAutoscaler" {
            let target = &object["spec"]["scaleTargetRef"];
            let scaled = rendered[values]
                .iter()
                .find(|other| other["kind"] == target["kind"] && other["metadata"]["name"] == target["name"]);
            let scaled = scaled.unwrap_or_else(|| panic!("{name} scales {target}"));
            assert!(scaled["spec"]["replicas"].is_null(), "{name}: nobody else sets how many there are");
        }
    }
}

#[test]
fn nodes_are_told_where_sharing_is_answered() {
    let Some(rendered) = rendered("what the chart tells nodes of sharing") else { return };
    for (values, objects) in &rendered {
        let named = |kind: &str, end: &str| {
            objects.iter().find(|object| {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                object["kind"] == kind && name.ends_with(end)
            })
        };
        let told = |component: &str, variable: &str| -> Option<String> {
            let pods = objects.iter().filter(|object| object["kind"] != "Pod").filter_map(pod);
            let mut containers = pods.flat_map(containers);
            let container = containers.find(|container| container["name"] == component)?;
            let environment = list(&container["env"]);
            let variable = environment.iter().find(|other| other["name"] == variable)?;
            Some(variable["value"].as_str().expect("a text").to_owned())
        };
        let (enabled, answered_at) = ("CAIRN_FEDERATION__ENABLED", "CAIRN_FEDERATION__ANSWERED_AT");
        if values == "embedded.yaml" {
            assert!(told("node", enabled).is_none() && named("Service", "-federation").is_none(), "it is off");
            continue;
        }
        let service = named("Service", "-federation").unwrap_or_else(|| panic!("{values} has the service"));
        let (name, port) = (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]);
        let url = format!("http://{}:{port}", name.as_str().expect("a name"));
        assert_eq!((told("node", enabled).as_deref(), told("node", answered_at)), (Some("false"), Some(url)));
        assert_eq!(told("federation", enabled).as_deref(), Some("true"), "{values}");
        let open = named("Service", "-peers").is_some();
        assert_eq!(open, told("federation", "CAIRN_FEDERATION__LISTEN").is_some(), "{values}");
        assert_eq!(open, values == "scale-out.yaml", "others are let in where the values say so");
    }
}

/// The objects that the chart gives for each file in its `ci/`, or nothing where it cannot be rendered.
fn rendered(what: &str) -> Option<BTreeMap<String, Vec<Value>>> {
    let python = python(what)?;
    let out = tempfile::tempdir().expect("a temporary folder");
    let out_path = out.path().to_str().expect("a path in UTF-8");
    let checked = run(&python, &["deploy/check/check.py", "chart", "deploy/helm/cairn", out_path]);
    if checked.status.code() == Some(3) {
        not_tested(what, "there is neither helm nor its library; install helm");
        return None;
    }
    succeeded(&checked);
    let values = files::all(out.path());
    assert_eq!(values.len(), 3, "every file in ci/ was rendered");
    let parsed = values.into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("manifests are text");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        (name, documents(&text))
    });
    Some(parsed.collect())
}

fn objects(rendered: &BTreeMap<String, Vec<Value>>) -> impl Iterator<Item = (&String, &Value)> {
    rendered.iter().flat_map(|(values, objects)| objects.iter().map(move |object| (values, object)))
}

fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str() {
        Some("Pod") => Some(&object["spec"]),
        Some("Deployment" | "StatefulSet") => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

fn containers(pod: &Value) -> Vec<Value> {
    list(&pod["initContainers"]).into_iter().chain(list(&pod["containers"])).collect()
}

fn selects(selector: &Value, workload: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    selector.as_object().is_some_and(|wanted| wanted.iter().all(|(label, value)| &labels[label] == value))
}
