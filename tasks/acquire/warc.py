"""Pages from existing WARC files, such as a slice of Common Crawl."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from infra.dataset.ledger import Verdict, failed
from infra.dataset.stage import PartResult
from infra.formats import warc as archive
from infra.formats.urls import canonicalize_url
from infra.store.external_files import open_url
from tasks.acquire.capture_parts import CapturePartWriter
from tasks.acquire.input_files import InputFile
from tasks.acquire.source import USER_AGENT, FileSource, UserAgent
from tasks.acquire.web import page
from tasks.acquire.web.robots import product_token


class WarcSource(FileSource):
    """Pages from .warc and .warc.gz files that exist already, such as a slice of Common Crawl."""

    kind: Literal["warc"]
    max_page_bytes: int = Field(
        default=10_000_000, ge=1, description="a longer payload fails as too_large"
    )
    user_agent: UserAgent = Field(
        default=USER_AGENT,
        description="user agent whose product token is matched with the robots meta tags of pages",
    )

    needs_extraction: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("fastwarc", "lxml")

    def output_config(self) -> dict[str, Any]:
        """The settings that decide the output besides the files' bytes; `extract` adds the license."""
        settings = super().output_config()
        del settings["license"], settings["user_agent"]
        return {**settings, "robots_token": product_token(self.user_agent)}

    def read_file(self, file: InputFile) -> Iterator[PartResult]:
        """The parts of one file: every record that represents a page has a verdict.

        Requests, metadata and warcinfo records represent none. Every damaged range of a file is one
        failure with its position; records before and after it are read.
        """
        writer = CapturePartWriter(self.name)
        segment = file.segment(self.name)
        with open_url(file.url, file.options) as stream:
            for offset, item in archive.iter_captures_skipping_damage(
                stream, max_payload=self.max_page_bytes
            ):
                if isinstance(item, archive.DamagedRange):
                    content = f"{file.digest} {offset}".encode()
                    writer.add_rejected(None, _damage_verdict(file, item), content)
                elif item.kind != "metadata":
                    self._add_capture(writer, item, segment)
                yield from writer.take_full()
        yield from writer.take_rest()

    def _add_capture(
        self, writer: CapturePartWriter, capture: archive.Capture, segment: str
    ) -> None:
        url = canonicalize_url(capture.url) or capture.url
        token = product_token(self.user_agent)
        verdict, parsed = page.judge_response(capture, url, token, self.max_page_bytes)
        if verdict.kept:
            writer.add_capture(capture, url, verdict, robots=parsed.directives, segment=segment)
        else:
            writer.add_rejected(url, verdict, capture.payload)


def _damage_verdict(file: InputFile, damage: archive.DamagedRange) -> Verdict:
    evidence = {"file": file.name, "offset": damage.offset, "error": damage.error}
    if damage.end is not None:
        return failed("damaged_warc", **evidence, bytes=damage.end - damage.offset)
    return failed("truncated_warc" if damage.records_read else "bad_warc", **evidence)
