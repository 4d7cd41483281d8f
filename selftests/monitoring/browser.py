# SPDX-License-Identifier: GPL-2.0-only
"""A headless Chromium, driven over its debugging pipe: NUL-terminated JSON on descriptors 3 and 4."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time


class Browser:
    """One page; `errors` is what its console complained of, `urls` what it asked for."""

    def __init__(self, width=1280, height=900, dark=False):
        self.profile = tempfile.mkdtemp(prefix="mafc-browser")
        their_in, self.to = os.pipe()
        self.back, their_out = os.pipe()

        def pipes():
            a, b = os.dup(their_in), os.dup(their_out)     # 3 and 4 may be among them
            os.dup2(a, 3)
            os.dup2(b, 4)
        self.process = subprocess.Popen(
            ["chromium-headless-shell", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={self.profile}",
             f"--window-size={width},{height}"] + (["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
            preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(their_in)
        os.close(their_out)
        self.buffer, self.serial, self.session = b"", 0, None
        self.errors, self.urls = [], []
        target = self.call("Target.createTarget", url="about:blank", width=width, height=height)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in "Runtime", "Log", "Page", "Network":
            self.call(domain + ".enable")
        if dark:
            self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def message(self):
        while b"\0" not in self.buffer:
            part = os.read(self.back, 1 << 16)
            if not part:
                raise EOFError("the browser ended")
            self.buffer += part
        one, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(one)

    def event(self, name, p):
        if name == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(p["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(p["args"]))
        elif name == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"):
            self.errors.append(json.dumps(p["entry"]))
        elif name == "Network.requestWillBeSent":
            self.urls.append(p["request"]["url"])

    def call(self, method, **params):
        self.serial += 1
        request = {"id": self.serial, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.serial:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.event(answer["method"], answer.get("params", {}))

    def eval(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def open(self, url, seconds):
        self.call("Page.navigate", url=url)
        self.wait(f"location.href == '{url}' && document.readyState == 'complete'", seconds)

    def wait(self, expression, seconds):
        """Until the expression is true; its value."""
        end = time.monotonic() + seconds
        while not (value := self.eval(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}: not within {seconds} s; errors: {self.errors}")
            time.sleep(0.2)
        return value

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)
