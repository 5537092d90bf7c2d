"""Reads YAML with an error for a key that stands twice, which is a slip wherever it happens."""

import yaml


class Reader(yaml.SafeLoader):
    pass


def mapping(reader, node):
    # A merged mapping gives defaults, and its keys may be said again.
    seen = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge":
            name = reader.construct_object(key, deep=True)
            if name in seen:
                raise ValueError(f"{name!r} stands twice{key.start_mark}")
            seen.add(name)
    reader.flatten_mapping(node)
    return {reader.construct_object(k, deep=True): reader.construct_object(v, deep=True) for k, v in node.value}


Reader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def one(text):
    return yaml.load(text, Loader=Reader)


def all(text):
    return [document for document in yaml.load_all(text, Loader=Reader) if document]
