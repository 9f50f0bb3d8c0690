"""Predictions, from requests' bytes to answers' bytes: decode, validate, call, encode. Knows no gRPC, no socket, no process.

This is the boundary `handle(method, bytes)`: whatever carries the bytes, a request gets the same answer or PredictionError.
`handle_all` answers what is waiting, in as few calls of the model as contract and model allow.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Dict, Hashable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .contract import Signature
from .contract.check import listed, shortened, unknown_names
from .errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailure,
    OutputMismatch,
    Overloaded,
    PredictionError,
    UnknownMethod,
    Violation,
)
from .model import batching, messages, values
from .model.code import describe
from .model.config import ModelOptions
from .model.service import Context, Request, RuntimeService
from .outcome import Call, Outcome
from .protocols import Protocol
from .tensors import CODEC_BY_PATH, Codec, Tensor, TensorError, foreign, omitted_bytes
from .wire import TooMany, WireError

log = logging.getLogger(__name__)

MAX_UNDECLARED = 100  # names of outputs that are warned about; a model may make up new ones for ever

Outputs = Dict[str, Tensor]


class _Ready(NamedTuple):
    """A decoded and validated call."""

    call: Call
    codec: Codec
    decoded: Any  # the codec's own
    request: Request
    codec_seconds: float


class Predictor:
    """Answers the predictions of one loaded service."""

    def __init__(self, service: RuntimeService) -> None:
        self._service = service
        self._undeclared: Set[str] = set()
        self._batched: Dict[str, int] = {}  # the signatures whose requests may share a call, and how many may

    def handle(self, method: str, data: Any, timeout: Optional[float] = None) -> bytes:
        """The bytes of the answer to the request `data` of the gRPC path `method`. Raises a PredictionError."""
        deadline = 0.0 if timeout is None else time.monotonic() + timeout
        [outcome] = self.handle_all([Call(method, data, deadline)])
        if isinstance(outcome.result, PredictionError):
            raise outcome.result
        return outcome.result

    def handle_all(self, calls: Sequence[Call]) -> List[Outcome]:
        """The outcomes of the calls, in their order. Calls that fit together reach the model as one."""
        if len(calls) == 1:
            ready = self._ready(calls[0])
            return [ready if isinstance(ready, Outcome) else self._answered_alone(ready)]
        outcomes: List[Optional[Outcome]] = [None] * len(calls)
        groups: Dict[Hashable, List[Tuple[int, _Ready]]] = {}
        for index, call in enumerate(calls):
            ready = self._ready(call)
            if isinstance(ready, Outcome):
                outcomes[index] = ready
            else:
                groups.setdefault(self._group(index, ready), []).append((index, ready))
        for group in groups.values():
            for (index, _), outcome in zip(group, self._answered([ready for _, ready in group])):
                outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    @property
    def options(self) -> ModelOptions:
        return self._service.options

    @property
    def batch_limit(self) -> int:
        """How many requests may share a call of the model; 1: none."""
        return max(self._batched.values(), default=1)

    @property
    def is_async(self) -> bool:
        return self._service.is_async

    # Decode and validate ------------------------------------------------------------------------------------------

    def _ready(self, call: Call) -> Union[_Ready, Outcome]:
        started = time.perf_counter()
        try:
            if call.deadline and call.deadline <= time.monotonic():
                raise DeadlineExceeded("the deadline passed while the call was waiting for the model")
            codec = CODEC_BY_PATH.get(call.method)
            if codec is None:
                raise UnknownMethod(f"no method {call.method}")
            decoded = decode(codec, call.data)
            signature = self._signature(codec.protocol, decoded)
            self._check_omitted(decoded.inputs)
            unanswerable = (*codec.refused(decoded), *_unanswerable(signature, codec.protocol, codec.wanted(decoded)))
            request = Request(signature, validate(signature, decoded.inputs, unanswerable), codec.protocol.name)
            return _Ready(call, codec, decoded, request, time.perf_counter() - started)
        except PredictionError as error:
            return Outcome(error, codec_seconds=time.perf_counter() - started)

    def _signature(self, protocol: Protocol, decoded: Any) -> Signature:
        contract = self._service.contract
        name = decoded.signature_name
        if not name and protocol.names_in_path:
            name = contract.signature_in(decoded.model_name)
        signature = contract.signature(name)
        if signature is None:
            expected = listed(known.name for known in contract.signatures)
            told = shortened(name)
            path = protocol.signature_path or f"{protocol.message}, which cannot name a signature"
            violation = Violation(path, f"expected one of {expected}, got {told!r}")
            raise InvalidRequest(f"{told!r} signature is not present in the model", [violation])
        return signature

    def _check_omitted(self, inputs: Dict[str, Tensor]) -> None:
        """Values that messages leave out count as if they had been sent."""
        size = omitted_bytes(inputs)
        if not size:
            return
        most = self.options.max_message_bytes // self.batch_limit
        if size > most:
            name = max(inputs, key=lambda each: inputs[each].omitted)
            told = f"expected at most {most} bytes of values that are left out, got {shortened(str(size))}"
            violation = Violation(f"inputs.{shortened(name)}", told)
            raise InvalidRequest("the request leaves out more values than it may (MAX_MESSAGE_BYTES)", [violation])

    def _group(self, index: int, ready: _Ready) -> Hashable:
        """Calls of one group fit into one call of the model; a call that fits with none is a group of its own."""
        signature, inputs = ready.request.signature, ready.request.inputs
        if signature.name not in self._batched or batching.rows(inputs) is None:
            return index
        return signature.name, batching.key(inputs)

    # Call and encode ----------------------------------------------------------------------------------------------

    def _answered(self, group: List[_Ready]) -> List[Outcome]:
        limit = self._batched.get(group[0].request.signature.name, 1)
        outcomes: List[Outcome] = []
        for start in range(0, len(group), limit):
            chunk = group[start : start + limit]
            together = self._answered_together(chunk) if len(chunk) > 1 else None
            outcomes += together or [self._answered_alone(ready) for ready in chunk]
        return outcomes

    def _answered_alone(self, ready: _Ready) -> Outcome:
        timeout = ready.call.deadline - time.monotonic() if ready.call.deadline else None
        started = time.perf_counter()
        try:
            result = self._call(ready.request, timeout)
            called = time.perf_counter()
            answer = encode(ready, self._promised(ready.request.signature, result))
        except PredictionError as error:
            return Outcome(error, 1, time.perf_counter() - started, ready.codec_seconds)
        return Outcome(answer, 1, called - started, ready.codec_seconds + time.perf_counter() - called)

    def _answered_together(self, group: List[_Ready]) -> Optional[List[Outcome]]:
        """None where the model could not answer them as one: each is then asked alone, and only the guilty one fails."""
        started = time.perf_counter()
        parts = self._parts([ready.request for ready in group])
        if parts is None:
            return None
        seconds = (time.perf_counter() - started) / len(group)
        outcomes: List[Outcome] = []
        for ready, part in zip(group, parts):
            encoding = time.perf_counter()
            answer = encode(ready, part)
            outcomes.append(Outcome(answer, len(group), seconds, ready.codec_seconds + time.perf_counter() - encoding))
        return outcomes

    def _parts(self, requests: Sequence[Request]) -> Optional[List[Outputs]]:
        try:
            inputs = batching.joined([request.inputs for request in requests])
            sizes = [batching.rows(request.inputs) or 0 for request in requests]
            result = self._service.Predict(requests[0]._replace(inputs=inputs), Context(None))
            return batching.parted(self._promised(requests[0].signature, result), sizes)
        except BaseException:  # noqa: BLE001  # whose fault it is shows when each is asked alone
            return None

    def _call(self, request: Request, timeout: Optional[float]) -> Any:
        """What the model returns. Whatever it raises fails this call, and no other."""
        try:
            return self._service.Predict(request, Context(timeout))
        except PredictionError as error:
            if _is_whole(error):
                raise
            raise self._failure(request.signature, error) from error
        except BaseException as error:
            raise self._failure(request.signature, error) from error

    def _failure(self, signature: Signature, error: BaseException) -> ModelFailure:
        foreign.log_error(log, "the model failed", error, signature=signature.name)
        return ModelFailure(f"the model's function {signature.name!r} failed: {self._told(error)}")

    def _told(self, error: BaseException) -> str:
        """What the caller reads of an error that the model's code raised."""
        if not self._service.options.error_details:
            return "see the runtime's log"
        try:
            return describe(error, self._service.directory)
        except BaseException:  # noqa: BLE001  # describing it runs its own code
            return foreign.type_name(error)

    def _promised(self, signature: Signature, result: Any) -> Outputs:
        """What the model returned, as its contract promises it. Raises OutputMismatch, whatever a value's own code raises."""
        try:
            returned = messages.from_result(result)
        except OutputMismatch:
            raise
        except BaseException as error:
            foreign.log_error(log, "what the model returned cannot be read", error, signature=signature.name)
            what = f"the model's function {signature.name!r} returned {foreign.type_name(result)} that cannot be read"
            details = self._service.options.error_details
            raise OutputMismatch(f"{what}: {foreign.describe(error, details=details)}") from error
        return self._checked(signature, returned)

    def _checked(self, signature: Signature, returned: Dict[str, Any]) -> Outputs:
        violations: List[Violation] = []
        details = self._service.options.error_details
        outputs = values.returned(signature.outputs, returned, "outputs", violations, details=details)
        if violations:
            raise OutputMismatch(f"the model's function {signature.name!r} broke its contract", violations)
        if len(returned) > len(outputs):
            self._warn_undeclared(returned.keys() - outputs.keys())
        return outputs

    def _warn_undeclared(self, names: Set[str]) -> None:
        """Once for each of the first names: such outputs are dropped, as Hydrosphere's gateway did."""
        for name in sorted(names - self._undeclared):
            if len(self._undeclared) < MAX_UNDECLARED:
                self._undeclared.add(name)
                told = foreign.shortened(name, 100)
                log.warning("an output that the contract does not declare is left out", extra={"output": told})

    # The trial ----------------------------------------------------------------------------------------------------

    def try_batching(self) -> None:
        """Lets requests share calls where that is asked for, unless contract, convention or a trial forbids it."""
        for signature in self._service.contract.signatures:
            limit = self._service.batch_limit(signature.name)
            if limit == 1:
                continue
            refused = self._why_not_batched(signature)
            if refused:
                log.warning("requests never share calls", extra={"signature": signature.name, "reason": refused})
            else:
                self._batched[signature.name] = limit
                log.info("requests may share calls", extra={"signature": signature.name, "at_most": limit})

    def _why_not_batched(self, signature: Signature) -> str:
        if not self._service.batchable:
            return "functions of the old convention and coroutines take one request each"
        if not batching.allowed(signature):
            return "expected an unknown first dimension in every input and output of the contract"
        if not batching.can_try(signature):
            return "inputs that are maps or of any type cannot be tried"
        return self._dependent_rows(signature)

    def _dependent_rows(self, signature: Signature) -> str:
        """Returns the trial in which requests got other answers together than alone, or ""."""
        end = time.monotonic() + batching.TRIAL_SECONDS
        for trial in batching.trials(signature.inputs):
            if time.monotonic() > end:
                log.warning(
                    "not every trial of batching was made", extra={"signature": signature.name, "next": trial.name}
                )
                break
            requests = [Request(signature, inputs, "v2") for inputs in trial.requests]
            alone = self._alone(requests)
            if alone is None:
                continue  # the model refuses such values, whoever sends them
            again = self._alone(requests[:1])
            if again is None or not batching.same(again[0], alone[0]):
                return "the same request was answered differently the second time"
            together = self._parts(requests)
            if together is None or not all(map(batching.same, together, alone)):
                return f"rows are not independent: {trial.name} were answered differently together than alone"
        return ""

    def _alone(self, requests: Sequence[Request]) -> Optional[List[Outputs]]:
        try:
            return [
                self._promised(
                    request.signature,
                    self._service.Predict(request._replace(inputs=_copied(request.inputs)), Context(None)),
                )
                for request in requests
            ]
        except BaseException:  # noqa: BLE001  # made-up values, which the model may refuse
            return None


def _copied(inputs: Dict[str, Any]) -> Dict[str, Any]:
    """A model may write to its inputs."""
    return {name: value.copy() for name, value in inputs.items()}


def decode(codec: Codec, data: Any) -> Any:
    try:
        return codec.decode_request(data)
    except TooMany as error:
        raise InvalidRequest(f"the request is more than is read: {error}") from None
    except MemoryError:
        raise Overloaded(f"there is not enough memory to read a request of {len(data)} bytes") from None
    except (WireError, TensorError) as error:
        protocol = codec.protocol
        raise InvalidRequest(f"the request is no {protocol.message} of {protocol.service}: {error}") from None


def validate(signature: Signature, sent: Dict[str, Tensor], others: Iterable[Violation] = ()) -> Dict[str, Any]:
    """The values for the model's function. Raises InvalidRequest with every violation of the contract at once, `others` too."""
    violations: List[Violation] = []
    inputs = values.received(signature.inputs, sent, "inputs", violations)
    violations += others
    if violations:
        raise InvalidRequest(f"the request breaks the contract of {signature.name!r}", violations)
    return inputs


def _unanswerable(signature: Signature, protocol: Protocol, wanted: Sequence[str]) -> Iterator[Violation]:
    """Outputs that are asked for and do not exist, or cannot be told over this protocol."""
    if wanted:
        yield from unknown_names(signature.outputs, dict.fromkeys(wanted), "outputs")
    if protocol.types is not None:
        for field in signature.outputs:
            if not protocol.can_carry(field.dtype) and (not wanted or field.name in wanted):
                told = f"{field.type_text} cannot be told over {protocol.service}, other outputs can be asked for alone"
                yield Violation(f"outputs.{field.name}", told)


def encode(ready: _Ready, outputs: Outputs) -> Union[bytes, PredictionError]:
    """The answer, or that the protocol cannot hold it: the contract may leave a type open."""
    try:
        return ready.codec.encode_response(ready.decoded, outputs, ready.request.signature.name)
    except TensorError as error:
        told = str(error)
    except BaseException as error:  # noqa: BLE001  # an answer too large for memory, or a fault of ours
        foreign.log_error(log, "an answer cannot be encoded", error)
        told = foreign.describe(error, details=False)
    name = ready.request.signature.name
    return OutputMismatch(f"the answer of {name!r} cannot be told over {ready.codec.protocol.service}: {told}")


def _is_whole(error: PredictionError) -> bool:
    """Whether an error of a custom runtime is as our own are; its class may have a constructor of its own."""
    try:
        return isinstance(error.summary, str) and all(isinstance(each, Violation) for each in error.violations)
    except BaseException:  # noqa: BLE001
        return False
