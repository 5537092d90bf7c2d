"""Holds the deployment files against their schemas. tests/tests/deploy.rs runs it; by hand:

    python3 -m venv /tmp/check && /tmp/check/bin/pip install -r deploy/check/requirements.txt
    /tmp/check/bin/pip install --no-deps --require-hashes -r deploy/check/renderer.txt    # not needed where helm is
    /tmp/check/bin/python deploy/check/check.py compose deploy/compose.yaml
    /tmp/check/bin/python deploy/check/check.py chart deploy/helm/cairn /tmp/rendered

`chart` renders the chart with each file in its `ci/`, writes what comes out, and makes sure that each file in
`ci/refused/` is refused for the reason in its first line. Ends with 0 when all is well, 1 with a line for each
problem, and 3 when there is nothing to render with.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml_reader

RELEASE, NAMESPACE = "brain", "memory"
# The oldest and the newest Kubernetes that the chart is meant for, as far as there are schemas.
OLDEST = (1, 27)
# Objects of the Prometheus operator, which is no part of Kubernetes.
WITHOUT_SCHEMA = {"monitoring.coreos.com/v1"}


class Refused(Exception):
    """The chart does not take these values."""


def render_with_helm(chart, values):
    command = ["helm", "template", RELEASE, str(chart), "--namespace", NAMESPACE, "--values", str(values)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Refused(ran.stderr)
    return ran.stdout


def render_with_library(chart, values):
    import helm_python

    try:
        loaded = helm_python.Chart.load(str(chart))
        given = yaml_reader.one(values.read_text())
        loaded.validate_schema(given)
        rendered = loaded.render(given, name=RELEASE, namespace=NAMESPACE, is_install=True)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from error
    return "\n---\n".join(text for name, text in sorted(rendered.items()) if name.endswith(".yaml"))


def lint(chart):
    if shutil.which("helm"):
        ran = subprocess.run(["helm", "lint", "--strict", str(chart)], capture_output=True, text=True)
        return [] if ran.returncode == 0 else [ran.stdout + ran.stderr]
    import helm_python

    report = helm_python.lint(str(chart), strict=True)
    warned = [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
    return warned + report["errors"]


def renderer():
    if shutil.which("helm"):
        return render_with_helm
    try:
        import helm_python  # noqa: F401
    except ImportError:
        return None
    return render_with_library


def kubernetes_versions():
    import kubernetes_validate

    known = sorted({tuple(int(part) for part in v.split(".")[:2]) for v in kubernetes_validate.utils.all_versions()})
    fit = [version for version in known if version >= OLDEST]
    return [".".join(map(str, version)) for version in (fit[0], fit[-1])]


def invalid(manifest, versions):
    import kubernetes_validate

    name = f"{manifest.get('kind')} {manifest.get('metadata', {}).get('name')}"
    if manifest.get("apiVersion") in WITHOUT_SCHEMA:
        return []
    found = []
    for version in versions:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{name}, Kubernetes {version}: {error.message}")
    return found


def check_chart(chart, out):
    render = renderer()
    if render is None:
        print("there is neither helm nor its library")
        return 3
    problems, versions = lint(chart), kubernetes_versions()
    out.mkdir(parents=True, exist_ok=True)
    for values in sorted(chart.glob("ci/*.yaml")):
        try:
            text = render(chart, values)
        except Refused as error:
            problems.append(f"{values.name}: {error}")
            continue
        (out / values.name).write_text(text)
        for manifest in yaml_reader.all(text):
            problems += [f"{values.name}: {problem}" for problem in invalid(manifest, versions)]
    for values in sorted(chart.glob("ci/refused/*.yaml")):
        reason = values.read_text().splitlines()[0].removeprefix("# ")
        try:
            render(chart, values)
            problems.append(f"{values.name} is not refused")
        except Refused as error:
            if reason not in str(error):
                problems.append(f"{values.name} is refused, but not for {reason!r}: {error}")
    print(f"rendered by {render.__name__}, held against Kubernetes {' and '.join(versions)}")
    return report(problems)


def check_compose(path):
    from check_jsonschema import builtin_schemas
    from jsonschema.validators import validator_for

    schema = json.loads((Path(builtin_schemas.__file__).parent / "vendor" / "compose-spec.json").read_text())
    errors = validator_for(schema)(schema).iter_errors(yaml_reader.one(path.read_text()))
    return report([f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors])


def report(problems):
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def main(arguments):
    match arguments:
        case ["compose", path]:
            return check_compose(Path(path))
        case ["chart", chart, out]:
            return check_chart(Path(chart), Path(out))
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
