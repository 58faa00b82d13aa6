"""An interactive tool: a web server in a small image, with one entry point."""

from __future__ import annotations

from dataclasses import dataclass

from end_to_end.shell_tool import BUSYBOX

PORT = 8080
GREETING = "hello from an interactive tool"

_XML = """<tool id="{id}" name="{id}" version="1.0" profile="24.0" tool_type="interactive">
  <requirements><container type="docker">{image}</container></requirements>
  <entry_points>
    <entry_point name="page" requires_domain="False">
      <port>{port}</port>
      <url>index.html</url>
    </entry_point>
  </entry_points>
  <command><![CDATA[
    mkdir www && echo '{greeting}' > www/index.html && echo kept > '$out' &&
    {server}
  ]]></command>
  <inputs/>
  <outputs><data name="out" format="txt"/></outputs>
</tool>
"""


@dataclass(frozen=True)
class InteractiveTool:
    """A tool for a destination, and the command that serves its page."""

    id: str
    environment: str | None = None
    server: str = f"httpd -f -p {PORT} -h www"

    @property
    def xml(self) -> str:
        """The tool's definition in Galaxy's XML."""
        return _XML.format(
            id=self.id, image=BUSYBOX, port=PORT, greeting=GREETING, server=self.server
        )
