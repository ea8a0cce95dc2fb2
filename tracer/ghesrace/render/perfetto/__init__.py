# SPDX-License-Identifier: Apache-2.0
"""This writes what was judged as a trace that ui.perfetto.dev opens. Only this folder imports the
`perfetto` package; import it where it is needed."""
