"""A tool that runs the script it is given, in an image and at a destination of its own."""

from __future__ import annotations

from dataclasses import dataclass

DEBIAN = "debian:trixie"
BUSYBOX = "swarm-runner-galaxy/busybox:1"
# Without bash, without python, without what Debian calls essential.
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
    """`environment` is the destination; the default one where it is None."""

    id: str
    environment: str | None = None
    image: str | None = DEBIAN

    @property
    def xml(self) -> str:
        """The tool, as Galaxy reads it."""
        container = f'<container type="docker">{self.image}</container>' if self.image else ""
        return _XML.format(id=self.id, container=container)
