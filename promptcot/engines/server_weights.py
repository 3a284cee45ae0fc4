"""Has a vLLM server take other weights: a folder in place of its model's, or an adapter beside it.

The server reads the folder from a disk that it shares with this machine. Nothing here is tried
again: what fails half way must not be asked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from promptcot.adapters import base_of, is_adapter
from promptcot.engines.patient_client import EnvironmentKey, is_loopback, text_of
from promptcot.engines.retries import clip, server_message

DEV_MODE = "VLLM_SERVER_DEV_MODE=1"
LORA_UPDATES = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
NOT_FOUND = 404


class ServedWeights:
    """The weights of one vLLM server.

    Args:
        base_url: Of the server, up to and with the version.
        key: Sent along where it is set.
        timeout_s: Limit of one request.
    """

    def __init__(self, base_url: str, key: EnvironmentKey, timeout_s: float) -> None:
        self.base_url = base_url
        self.root = re.sub(r"/v\d+$", "", base_url)
        self.key = key
        self.timeout_s = timeout_s

    def load(self, model: str, weights: str) -> str:
        """Replace the server's weights, or add an adapter to it under a name never used before.

        Before an adapter its base is loaded, as the server may hold other weights by now; one that
        takes no weights at all still has those that it was started with.

        Returns:
            The name to ask for: ``model``, or that of the adapter.

        Raises:
            ConnectionError: No answer came.
            RuntimeError: The server refuses, or does not know how.
        """
        if not is_adapter(weights):
            self._replace(weights)
            return model
        self._replace(base_of(weights), required=False)
        name = f"{model}-{uuid4().hex[:12]}"
        path = str(Path(weights).resolve())
        body = {"lora_name": name, "lora_path": path}
        self._post(f"{self.base_url}/load_lora_adapter", body, LORA_UPDATES)
        return name

    def unload(self, name: str) -> None:
        """Take an adapter away again."""
        body = {"lora_name": name}
        self._post(f"{self.base_url}/unload_lora_adapter", body, LORA_UPDATES)

    def _replace(self, weights: str, *, required: bool = True) -> None:
        path = str(Path(weights).resolve()) if Path(weights).exists() else weights
        body = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        cure = DEV_MODE if required else ""
        if self._post(f"{self.root}/collective_rpc", body, cure):
            self._post(f"{self.root}/reset_prefix_cache", {}, DEV_MODE)

    def _post(self, url: str, body: dict[str, Any], cure: str) -> bool:
        """Whether the server knows this address; where no cure is given, it need not."""
        try:
            response = httpx.post(
                url,
                json=body,
                auth=self.key,
                timeout=self.timeout_s,
                trust_env=not is_loopback(url),
            )
        except httpx.RequestError as error:
            what = f"{type(error).__name__}: {clip(self.key.blot(str(error)))}"
        else:
            return self._accepted(url, response, cure)
        # Not raised where httpx's error was caught: that one knows the request's headers.
        raise ConnectionError(
            f"POST {url} brought no answer ({what}): start the server there, set base_url, or "
            f"raise timeout_s ({self.timeout_s:g})"
        )

    def _accepted(self, url: str, response: httpx.Response, cure: str) -> bool:
        if response.is_success:
            return True
        said = clip(self.key.blot(server_message(text_of(response))))
        # An adapter that is not there is a 404 too, with a sentence of its own.
        unknown = response.status_code == NOT_FOUND and said == "Not Found"
        if unknown and not cure:
            return False
        advice = "look into the server's log, and check that it sees the folder on its disk"
        if unknown:
            advice = f"start the server with {cure} in its environment"
        raise RuntimeError(
            f"POST {url} was refused, status {response.status_code}: {said}: {advice}"
        )
