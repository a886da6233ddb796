"""The shape of a convolution without its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Channels, kernel, stride, padding, groups, dilation; `padding` None is `same_padding`."""

    in_channels: int
    out_channels: int
    kernel_size: int = 1
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    dilation: int = 1

    @property
    def same_padding(self) -> int:
        """The padding that keeps the size at stride 1; exact for odd kernels."""
        return self.dilation * (self.kernel_size - 1) // 2

    @property
    def resolved_padding(self) -> int:
        """`padding`, or `same_padding` where it is None."""
        return self.same_padding if self.padding is None else self.padding

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """The weight's shape: (out, in / groups, k, k).

        Raises:
            ValueError: the groups do not divide the channels.
        """
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{self.groups} groups do not divide {self.in_channels} input and "
                f"{self.out_channels} output channels"
            )
        size = self.kernel_size
        return self.out_channels, self.in_channels // self.groups, size, size

    @property
    def is_plain_3x3(self) -> bool:
        """Whether a re-parameterizable 3x3 block can replace it; stride and groups are free."""
        return self.kernel_size == 3 and self.padding in (None, 1) and self.dilation == 1

    @property
    def keeps_shape(self) -> bool:
        """Whether input and output have the same shape, so that an identity branch can exist.

        An even kernel has no tap in its centre, even where its dilation keeps the size.
        """
        same_size = self.stride == 1 and self.resolved_padding == self.same_padding
        return self.in_channels == self.out_channels and same_size and self.kernel_size % 2 == 1

    def conv(self, *, bias: bool, kernel_hw: tuple[int, int] | None = None) -> nn.Conv2d:
        """The bare convolution, or one with a smaller kernel whose taps lie on the same centre.

        A kernel of size k' parallel to one of size k is aligned by the padding
        p - d (k - k') / 2 along each axis.

        Raises:
            ValueError: that padding would be negative, or the kernels have no common centre.
        """
        height, width = kernel_hw or (self.kernel_size, self.kernel_size)
        padding = []
        for side in (height, width):
            excess = self.dilation * (self.kernel_size - side)
            no_centre = (self.kernel_size - side) % 2 == 1  # whatever the dilation
            if no_centre or self.resolved_padding * 2 < excess:
                raise ValueError(
                    f"a {height}x{width} branch cannot be centred beside a {self.kernel_size}x"
                    f"{self.kernel_size} kernel with padding {self.resolved_padding}"
                )
            padding.append(self.resolved_padding - excess // 2)
        return nn.Conv2d(
            self.in_channels,
            self.out_channels,
            (height, width),
            self.stride,
            (padding[0], padding[1]),
            groups=self.groups,
            dilation=self.dilation,
            bias=bias,
        )

    def pointwise(self, out_channels: int) -> ConvGeometry:
        """A 1x1 convolution in front of this one, with this one's groups."""
        return replace(
            self, out_channels=out_channels, kernel_size=1, stride=1, padding=0, dilation=1
        )
