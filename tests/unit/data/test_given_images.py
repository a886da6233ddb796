"""Whatever a program gives becomes the frame that its file would be, or one clear error."""

from __future__ import annotations

import http.server
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data import decoded_image, web_content
from data.given_images import given_frames, is_iterator
from data.image_file import read_image
from utils.errors import DatasetError

RED = np.full((48, 64, 3), (255, 0, 0), np.uint8)


def pixels(image: object, bgr: bool | None = None) -> np.ndarray:
    (frame,) = given_frames([image], bgr=bgr)
    assert frame.image.dtype == np.uint8 and frame.image.flags["C_CONTIGUOUS"]
    return frame.image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RED, "image0: an array does not say .* bgr=True for what OpenCV reads"),
        (RED / 255, r"image0: is an array \(48, 64, 3\) of float64; expected"),
        (RED.astype(np.float32), "of float32; expected"),
        (RED.astype(np.int64), "of int64; expected"),
        (RED.astype(np.uint16), "of uint16; expected"),
        (RED.astype(object), "of object; expected"),
        (RED > 0, "of bool; expected"),
        (RED.transpose(2, 0, 1), r"image0: is an array \(3, 48, 64\) of uint8; expected"),
        (RED[None], r"\(1, 48, 64, 3\) .* several images are a list of arrays"),
        (RED[0, 0], r"\(3,\) of uint8; expected"),
        (np.uint8(3), "is of type uint8; expected"),
        (np.array(3, np.uint8), r"\(\) of uint8; expected"),
        (RED[..., :2], r"\(48, 64, 2\) of uint8; expected"),
        (RED[:0], "image0: is 64x0, without any pixel"),
        (RED[:, :0], "image0: is 0x48, without any pixel"),
        (np.zeros((0, 0), np.uint8), "image0: is 0x0, without any pixel"),
        (np.broadcast_to(np.uint8(0), (30_000, 30_000, 3)), "30000x30000 has more than 179 mill"),
        (Image.new("I;16", (20, 20)), "more than 8 bits per pixel .mode I;16."),
        (Image.new("I", (20, 20)), "more than 8 bits per pixel .mode I."),
        (Image.new("F", (20, 20)), "more than 8 bits per pixel .mode F."),
        (Image.new("RGB", (0, 5)), "image0: is 0x5, without any pixel"),
        (3, "image0: is of type int; expected a path, an address"),
        (None, "image0: is of type NoneType; expected"),
        ({"image": RED}, "image0: is of type dict; expected"),
        ([RED], "image0: is of type list; expected"),
        (io.BytesIO(b"x"), "image0: is of type BytesIO; expected .* the bytes of an image"),
        (b"", "image0: not an image"),
        (b"no image", "image0: not an image"),
        ("missing.jpg", "missing.jpg: no such file"),
        ("", "path is empty"),  # the working folder
        ("a\0b.jpg", "cannot be read"),
        ("x" * 300, "cannot be read"),
        (Path(__file__).parent, "data: is not one image; folders, .* are for stream"),
        (Path(__file__), "test_given_images.py: not an image that can be decoded"),
        ("rtsp://u:secret@host/1", "^rtsp://host/1: is not one image"),
        ("http://u:secret@host/street.mp4?x=1", "^http://host/street.mp4.x=1: is not one image"),
        ("0", "^0: is not one image"),
        ("screen", "^screen: is not one image"),
        ("street.mp4", "street.mp4: is not one image"),
        ("http://[1/a.jpg", "cannot be fetched"),
        ("http://127.0.0.1:x/a.jpg", "cannot be fetched"),
        ("http://127.0.0.1/a b.jpg", "cannot be fetched"),
    ],
    ids=lambda value: str(value)[:40].replace("\0", "0") if isinstance(value, str) else None,
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DatasetError, match=message) as caught:
        list(given_frames([image]))
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_image_with_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("data.given_images.MAX_PIXELS", 3000)
    monkeypatch.setattr(decoded_image, "MAX_PIXELS", 3000)
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), RED)
    for image in (RED, Image.fromarray(RED), path, path.read_bytes()):
        with pytest.raises(DatasetError, match="more than 0 million pixels; shrink it"):
            pixels(image, bgr=False)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La",
                                  "CMYK", "YCbCr", "HSV"])  # fmt: skip
def test_modes_of_pillow(mode):
    """A gray image, which all of them can hold nearly as it is, loses only what a mode loses."""
    gray = Image.fromarray(np.tile(np.repeat([0, 255], 32).astype(np.uint8), (48, 1)))
    via = {"PA": "P", "RGBa": "RGBA", "La": "LA", "HSV": "RGB", "YCbCr": "RGB"}
    image = gray.convert(via.get(mode, mode)).convert(mode)
    assert image.mode == mode
    found = pixels(image).astype(int)
    assert found.shape == (48, 64, 3)
    assert np.abs(found - np.asarray(gray)[..., None]).max() <= 2


def test_transparency_is_dropped_as_from_files(tmp_path):
    rgba = Image.fromarray(noise(48, 64, 4))
    path = tmp_path / "a.png"
    rgba.save(path)
    palette = rgba.convert("RGB").quantize(16)
    palette.info["transparency"] = bytes(range(16))
    assert (pixels(rgba) == pixels(path)).all()
    assert (pixels(np.asarray(rgba), bgr=False) == pixels(path)).all()
    assert (pixels(np.asarray(rgba)[..., [2, 1, 0, 3]], bgr=True) == pixels(path)).all()
    assert (pixels(palette) == np.asarray(palette.convert("RGBA"))[..., :3]).all()


@pytest.mark.parametrize("bgr", ["rgb", "bgr", 2])
def test_an_order_of_colors_that_is_none(bgr):
    with pytest.raises(DatasetError, match=r"^bgr=.*: expected True"):
        pixels(RED, bgr=bgr)


def test_a_server_that_sends_too_slowly(monkeypatch):
    monkeypatch.setattr(web_content, "FETCH_SECONDS", 0)
    with (
        served(b"x" * 100) as address,
        pytest.raises(DatasetError, match=r"a.jpg: cannot be fetched: not all there after 0 s"),
    ):
        pixels(f"{address}/a.jpg")


def test_gray_arrays_need_no_order():
    gray = noise(48, 64)
    assert (pixels(gray) == gray[..., None]).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_file_its_bytes_and_its_address_are_one_image(tmp_path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(cv2.GaussianBlur(noise(48, 64, 3), (9, 9), 3)).convert(mode).save(path)
    expected = read_image(path)
    assert (pixels(path) == expected).all() and (pixels(str(path)) == expected).all()
    assert (pixels(path.read_bytes()) == expected).all()
    with Image.open(path) as opened:
        difference = np.abs(pixels(opened).astype(int) - expected)
    assert difference.max() <= 2  # of CMYK, Pillow and OpenCV round differently
    with served(path.read_bytes()) as address:
        assert (pixels(f"{address}/a.jpg") == expected).all()
        assert (pixels(f"{address}/snapshot?camera=1") == expected).all()


def test_a_damaged_file_opened_by_pillow(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(noise(48, 64, 3)).save(whole, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(whole.getvalue()[:3000])
    with Image.open(path) as opened, pytest.raises(DatasetError, match=r"cut.png: cannot be con"):
        pixels(opened)


def test_a_closed_image():
    image = Image.fromarray(RED)
    image.close()
    with pytest.raises(DatasetError, match="image0: cannot be converted to RGB"):
        pixels(image)


@contextmanager
def served(
    content: bytes, kind: str = "image/jpeg", code: int = 200, login: str | None = None
) -> Iterator[str]:
    """An http server that gives the same answer to everybody, or to who shows `login`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = login is None or self.headers.get("Authorization") == login
            self.send_response(code if allowed else 401)
            if not allowed:
                self.send_header("WWW-Authenticate", 'Basic realm="images"')
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_with_name_and_password():
    content = cv2.imencode(".png", RED[..., ::-1])[1].tobytes()
    with served(content, "image/png", login="Basic dTpzM2NyZXQ=") as address:
        named = address.replace("//", "//u:s3cret@")
        (frame,) = given_frames([f"{named}/a.png"])
        assert (frame.image == RED).all() and "s3cret" not in frame.source
        with pytest.raises(DatasetError, match="401") as caught:
            pixels(f"{named.replace('s3cret', 'wr0ng')}/a.png")
        assert "wr0ng" not in str(caught.value)


def test_addresses_without_an_image():
    for served_as, message in (
        ((b"<html>", "text/html"), "/a: not an image that can be decoded"),
        ((b"gone", "text/html", 404), "/a: cannot be fetched: HTTP Error 404"),
        ((b"--x", "multipart/x-mixed-replace"), "/a: is multipart/x-mixed-replace, not one image"),
    ):
        with served(*served_as) as address, pytest.raises(DatasetError, match=message):
            pixels(f"{address}/a")
    with pytest.raises(DatasetError, match=r"a.jpg: cannot be fetched: .*refused"):
        pixels(f"{address}/a.jpg")  # nobody is there any more


def test_an_answer_that_is_no_http():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-none\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DatasetError, match=r"a.jpg: cannot be fetched"):
            pixels(f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg")
        thread.join()


def test_an_open_file_is_no_iterator_of_images(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    with path.open("rb") as file:
        assert not is_iterator(file)
    assert is_iterator(iter([1])) and is_iterator(x for x in ()) and not is_iterator([1])
