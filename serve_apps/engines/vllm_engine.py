"""vLLM behind the engine protocol, for GPUs: AsyncLLM (v1) in the replica, tensor parallel, adapters, prefix caching.

AsyncLLM wants an event loop; it gets one of its own on a thread, so that its work never stalls the replica's. This side
admits, forwards and keeps count, as with the other engines. Token ids go in and come out: its tokenizer is not loaded.
vLLM is no dependency: it brings a torch of its own (README says how to install it).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.core.errors import BadInputError, UnsupportedError
from serve_apps.engines.protocol import Capabilities, EngineSampling
from serve_apps.engines.stream import Request
from serve_apps.engines.worker import EngineThread
from serve_apps.errors import UnavailableError

ADAPTERS = "adapters"  # the folder below a model's with one folder an adapter, as peft saves it
ADAPTER_FILE = "adapter_config.json"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes as the highest rank
CLOSE_S = 10.0
DTYPES = {"bf16": "bfloat16", "f32": "float32"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Library:
    """What is used of vLLM, each under its own name there; ``delta`` is ``RequestOutputKind.DELTA``."""

    AsyncLLM: Any
    AsyncEngineArgs: Any
    SamplingParams: Any
    LoRARequest: Any
    EngineDeadError: type[Exception]
    EngineGenerateError: type[Exception]
    delta: Any


def installed() -> Library:
    """The vLLM of this environment.

    Raises:
        UnsupportedError: there is none.
    """
    try:
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
    except ImportError as error:
        raise UnsupportedError(f'engine=vllm: vLLM cannot be used here ({error}); see README, "On GPUs"') from error
    return Library(
        AsyncLLM, AsyncEngineArgs, SamplingParams, LoRARequest, EngineDeadError, EngineGenerateError,
        RequestOutputKind.DELTA,
    )  # fmt: skip


class VllmEngine(EngineThread):
    """Runs a causal language model in Hugging Face layout on one GPU or several.

    Args:
        folder: config.json and safetensors, and perhaps ``adapters/NAME`` (LoRA as peft saves it); pickles and code of
            the model's own are refused.
        precision: ``bf16`` or ``f32``.
        concurrent: most requests worked on at once.
        batch_tokens: prompt and new tokens of one step together.
        context_tokens: longest prompt and completion together; 0: as the model says.
        tensor_parallel: GPUs that hold the model together. Above 1 its workers run on Ray, in the placement group of
            the replica.
        gpu_memory: share of each GPU's memory that weights and cache may take.
        library: finds vLLM.
    """

    def __init__(
        self,
        folder: Path,
        precision: str = "bf16",
        concurrent: int = 64,
        batch_tokens: int = 1024,
        context_tokens: int = 0,
        tensor_parallel: int = 1,
        gpu_memory: float = 0.9,
        library: Callable[[], Library] = installed,
    ) -> None:
        super().__init__(f"vllm:{folder.name}")
        self.folder, self.precision, self.concurrent, self.batch_tokens = folder, precision, concurrent, batch_tokens
        self.context_tokens, self.tensor_parallel, self.gpu_memory = context_tokens, tensor_parallel, gpu_memory
        self._find = library
        self._library: Library | None = None
        self._llm: Any = None
        self._adapters: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: threading.Thread | None = None
        self._work: dict[int, Future[None]] = {}  # of each admitted request
        self._results: deque[_Result | None] = deque()  # None: the engine has died; guarded by _wake

    # -- the engine's thread -----------------------------------------------------------------------------------------
    def _open(self) -> Capabilities:
        arguments = self._arguments()
        self._library = library = self._find()
        self._adapters = {
            path.name: library.LoRARequest(lora_name=path.name, lora_int_id=number, lora_path=str(path))
            for number, path in enumerate(adapter_folders(self.folder), 1)
        }
        self._loop = asyncio.new_event_loop()
        self._pump = threading.Thread(target=self._loop.run_forever, name=f"loop-{self.name}", daemon=True)
        self._pump.start()
        try:
            self._llm = self._on_loop(self._made(library, arguments)).result()
            config = self._llm.model_config
        except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
            self._end_loop()
            raise BadInputError(f"vLLM cannot load {self.folder}: {error}", path=str(self.folder)) from error
        return Capabilities(
            engine="vllm", precision=self.precision, context_tokens=int(config.max_model_len),
            vocab=int(config.get_vocab_size()), concurrent=self.concurrent, adapters=bool(self._adapters),
        )  # fmt: skip

    def _arguments(self) -> dict[str, Any]:
        """Arguments of vLLM's ``AsyncEngineArgs``: nothing is run that came with the model, nothing fetched."""
        config = _read_json(self.folder / "config.json")
        if config.get("auto_map"):
            raise UnsupportedError(f"{self.folder} brings code of its own (auto_map), which is never run")
        ranks = [int(_read_json(path / ADAPTER_FILE).get("r", 0)) for path in adapter_folders(self.folder)]
        arguments: dict[str, Any] = {
            "model": str(self.folder),
            "skip_tokenizer_init": True,
            "trust_remote_code": False,
            "load_format": "safetensors",
            "generation_config": "vllm",  # what a model's own file suggests would change what clients asked for
            "dtype": DTYPES[self.precision],
            "max_num_seqs": self.concurrent,
            "max_num_batched_tokens": self.batch_tokens,
            "gpu_memory_utilization": self.gpu_memory,
            "enable_prefix_caching": True,
            "tensor_parallel_size": self.tensor_parallel,
            "disable_log_stats": True,
        }
        if self.context_tokens:
            arguments["max_model_len"] = self.context_tokens
        if self.tensor_parallel > 1:
            arguments["distributed_executor_backend"] = "ray"
        if ranks:
            if max(ranks) > RANKS[-1]:
                raise UnsupportedError(
                    f"{self.folder}: an adapter of rank {max(ranks)}; vLLM takes {RANKS[-1]} at most"
                )
            highest = next(rank for rank in RANKS if rank >= max(ranks))
            arguments |= {"enable_lora": True, "max_loras": len(ranks), "max_lora_rank": highest}
        return arguments

    async def _made(self, library: Library, arguments: dict[str, Any]) -> Any:
        return library.AsyncLLM.from_engine_args(library.AsyncEngineArgs(**arguments))

    def _takes(self, adapter: str) -> bool:
        return adapter in self._adapters

    def _admit(self, request: Request) -> bool:
        if len(self._work) >= self.concurrent:
            return False
        self._work[request.number] = self._on_loop(self._generate(request))
        return True

    def _ready(self) -> bool:
        return bool(self._results)

    def _step(self, running: Sequence[Request]) -> None:
        with self._wake:
            arrived = list(self._results)
            self._results.clear()
        requests = {request.number: request for request in running}
        for result in arrived:
            if result is None:
                raise UnavailableError(f"the process of engine {self.name} has died")
            request = requests.get(result.number)  # gone: it was cancelled while the tokens were on their way
            if request is None or request.over:
                continue
            request.emit(result.ids)
            if result.last and not request.over:
                why = result.error or "it ended early"
                request.error = UnavailableError(f"engine {self.name} dropped a request: {why}")

    def _drop(self, request: Request) -> None:
        self._work.pop(request.number).cancel()  # what is over has nothing left to cancel

    def _close(self) -> None:
        for work in self._work.values():
            work.cancel()
        self._work.clear()
        if self._llm is not None:
            with suppress(TimeoutError):
                self._on_loop(self._shut()).result(CLOSE_S)
            self._llm = None
        self._end_loop()

    # -- the loop of AsyncLLM ----------------------------------------------------------------------------------------
    async def _generate(self, request: Request) -> None:
        """Have one request worked on; being cancelled aborts it in vLLM too."""
        library = self._library
        if library is None:
            raise RuntimeError("not started")
        number, adapter = request.number, self._adapters.get(request.adapter or "")
        outputs = self._llm.generate(
            {"prompt_token_ids": list(request.ids)},
            library.SamplingParams(**sampling_arguments(request.sampling), output_kind=library.delta),
            str(number),
            lora_request=adapter,
        )
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    self._post(_Result(number, tuple(output.outputs[0].token_ids), bool(output.finished)))
        except library.EngineDeadError:
            self._post(None)
        except (library.EngineGenerateError, ValueError) as error:
            self._post(_Result(number, (), True, f"{type(error).__name__}: {error}"))

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait([*others, asyncio.create_task(asyncio.sleep(0))], timeout=CLOSE_S / 2)  # aborts come through
        self._llm.shutdown()

    def _post(self, result: _Result | None) -> None:
        with self._wake:
            self._results.append(result)
            self._wake.notify()

    def _on_loop(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        if self._loop is None:
            raise RuntimeError("not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None or self._pump is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        self._pump.join(CLOSE_S)
        if not loop.is_running():
            loop.close()


@dataclass(frozen=True)
class _Result:
    """New tokens of one request; ``last``: nothing follows, ``error`` says why where it did not come to its end."""

    number: int
    ids: tuple[int, ...]
    last: bool
    error: str = ""


def sampling_arguments(sampling: EngineSampling) -> dict[str, Any]:
    """The same as arguments of vLLM's ``SamplingParams``. Only what was asked for stops, and no text is made."""
    drawn = {} if sampling.greedy else {"top_p": sampling.top_p, "seed": sampling.seed63}
    return {
        "max_tokens": sampling.max_new_tokens,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "stop_token_ids": list(sampling.stop_ids),
        "ignore_eos": True,
        "detokenize": False,
        **drawn,
    }


def adapter_folders(folder: Path) -> list[Path]:
    """The adapters that come with a model, by name."""
    return sorted(path.parent for path in (folder / ADAPTERS).glob(f"*/{ADAPTER_FILE}"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"{path} cannot be read as JSON: {error}", path=str(path)) from error
    return found
