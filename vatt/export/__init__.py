"""Trained models as files that run without this package: SavedModel, ONNX, LiteRT.

    found = exporting.export(named, Path("exported"), "onnx")      # named: vatt.api.naming.find

A model becomes one function for each of its inputs (`signatures`), with evaluation's preprocessing
inside. A format (`formats`) writes them; what was written is run in a process of its own
(`verification`) on real clips (`samples`), and only what gives the live model's numbers is kept.
"""
