"""What a picture suffers from, told from its pixels alone: pure functions of tensors in [0, 1]."""
