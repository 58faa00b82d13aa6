"""A tool that runs a given script, in a given image and at a given destination."""

from __future__ import annotations

from dataclasses import dataclass

DEBIAN = "debian:trixie"
BUSYBOX = "swarm-runner-galaxy/busybox:1"
# Without bash, Python, and the packages that Debian marks as essential.
BUSYBOX_DOCKERFILE = """
FROM debian:trixie AS debian
RUN apt-get -q update && apt-get -q -y install --no-install-recommends busybox-static
FROM scratch
COPY --from=debian /bin/busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""

_XML = """<tool id="{id}" name="{id}" version="1.0" profile="24.0">
  <requirements>{container}</requirements>
  <command detect_errors="exit_code"><![CDATA[
    sh '$script' '$first' '$word' > '$out'
  ]]></command>
  <configfiles><configfile name="script">$text</configfile></configfiles>
  <inputs>
    <param name="text" type="text"><sanitizer sanitize="false"/></param>
    <param name="word" type="text" value=""><sanitizer sanitize="false"/></param>
    <param name="first" type="data" format="data" optional="true"/>
  </inputs>
  <outputs><data name="out" format="txt"/></outputs>
</tool>
"""


@dataclass(frozen=True)
class ShellTool:
    """A tool for a destination: `environment`, or the default destination if it is None."""

    id: str
    environment: str | None = None
    image: str | None = DEBIAN

    @property
    def xml(self) -> str:
        """The tool's definition in Galaxy's XML."""
        container = f'<container type="docker">{self.image}</container>' if self.image else ""
        return _XML.format(id=self.id, container=container)
