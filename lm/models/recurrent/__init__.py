"""What the recurrent families share: their settings, the stack of layers, their export."""
