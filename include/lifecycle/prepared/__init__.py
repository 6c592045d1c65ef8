"""Rests of log objects made elsewhere (Spark), and taken over here: an accelerator, on which no promise depends."""
