"""From a publisher's tensor names to ours."""
