"""The part of grpcurl that the README uses, for machines that do not have it.

Rules:
- It knows of the host only what reflection tells it, as grpcurl does.
- Flags, JSON and exit codes are grpcurl's; what the README does not use is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

EXIT_OF_STATUS = 64
"""grpcurl ends with this and the status code."""


def _messages(text: str, kind: Any) -> list[Any]:
    """The JSON values that stand in a row in `-d`."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(json_format.ParseDict(value, kind()))
        rest = rest[end:].strip()
    return found or [kind()]


def _call(
    channel: grpc.Channel, method: MethodDescriptor, data: str, seconds: float | None
) -> None:
    request_kind = message_factory.GetMessageClass(method.input_type)
    reply_kind = message_factory.GetMessageClass(method.output_type)
    requests = _messages(data, request_kind)
    path = f"/{method.containing_service.full_name}/{method.name}"
    replies = channel.stream_stream(path, lambda m: m.SerializeToString(), reply_kind.FromString)(
        iter(requests), timeout=seconds
    )
    for reply in replies:
        print(json_format.MessageToJson(reply), flush=True)


def main() -> int:
    """Run one command line of grpcurl."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-unix", action="store_true", required=True)
    parser.add_argument("-authority", required=True)
    parser.add_argument("-d", default="")
    parser.add_argument("-max-time", type=float)
    parser.add_argument("address")
    parser.add_argument("symbol")
    given = parser.parse_args()
    options = [("grpc.default_authority", given.authority)]
    with grpc.insecure_channel(f"unix:{given.address}", options) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if given.symbol == "list":
            print("\n".join(sorted(database.get_services())))
            return 0
        service, _, name = given.symbol.rpartition("/")
        method = DescriptorPool(database).FindServiceByName(service).methods_by_name[name]
        try:
            _call(channel, method, given.d, given.max_time)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            print(f"ERROR:\n  Code: {code.name}\n  Message: {error.details()}", file=sys.stderr)
            return EXIT_OF_STATUS + int(code.value[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
