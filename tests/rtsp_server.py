"""An RTSP camera on this machine, for Debian's Python with its GStreamer packages.

    python3 rtsp_server.py PORT

serves rtsp://127.0.0.1:PORT/numbered: 25 H.264 frames/s, the number of each frame in its pixels,
as `loopback_camera.numbered_image` draws it. Needs gir1.2-gst-rtsp-server-1.0, python3-gi and
gstreamer1.0-plugins-{base,good,ugly}.
"""

from __future__ import annotations

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402, after the versions

FPS, BITS, CELL, HEIGHT = 25, 16, 16, 64
PIPELINE = (
    "( appsrc name=images is-live=true do-timestamp=true format=time caps=video/x-raw,format=GRAY8,"
    f"width={BITS * CELL},height={HEIGHT},framerate={FPS}/1 ! videoconvert ! "
    "video/x-raw,format=I420 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
)


def numbered_image(number: int) -> bytes:
    row = b"".join((b"\xff" if number >> bit & 1 else b"\0") * CELL for bit in range(BITS))
    return row * HEIGHT


def send(images: Gst.Element, began: float) -> None:
    flow = Gst.FlowReturn.OK
    while flow == Gst.FlowReturn.OK:
        number = int((time.monotonic() - began) * FPS)
        flow = images.emit("push-buffer", Gst.Buffer.new_wrapped(numbered_image(number)))
        time.sleep(1 / FPS)


def main(port: str) -> None:
    Gst.init(None)
    began = time.monotonic()
    server = GstRtspServer.RTSPServer()
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)

    def start(_: object, media: GstRtspServer.RTSPMedia) -> None:
        images = media.get_element().get_by_name("images")
        threading.Thread(target=send, args=(images, began), daemon=True).start()

    factory.connect("media-configure", start)
    server.get_mount_points().add_factory("/numbered", factory)
    server.attach(None)
    sys.stdout.write(f"{began}\n")  # CLOCK_MONOTONIC is the same for all processes
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
