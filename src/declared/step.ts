/** What is done to this domain's own network: data, with a way back. Names, not indexes: a bridge may be made on the way. Pure. */
import type { BridgeSettings } from '../network/bridge-settings.js';
import type { PortVlans } from '../network/bridge-vlan.js';
import type { Prefix } from '../network/prefix.js';
import { describeRoute } from '../network/routes.js';
import { prefixText, type RouteOn } from './observed.js';

export type Step =
  | {
      readonly do: 'create-bridge';
      readonly ifname: string;
      readonly settings: BridgeSettings;
      readonly address: string | undefined;
    }
  | { readonly do: 'set-bridge'; readonly ifname: string; readonly settings: BridgeSettings }
  | { readonly do: 'set-mtu'; readonly ifname: string; readonly mtu: number; readonly was: number | undefined }
  | { readonly do: 'up'; readonly ifname: string }
  | { readonly do: 'join'; readonly ifname: string; readonly bridge: string }
  | { readonly do: 'leave'; readonly ifname: string; readonly bridge: string }
  | { readonly do: 'set-vlans'; readonly ifname: string; readonly vlans: PortVlans }
  | AddressStep
  | RouteStep;

export interface AddressStep {
  readonly do: 'add-address' | 'delete-address';
  readonly ifname: string;
  readonly prefix: Prefix;
  /** Who is to be said to have added it. */
  readonly protocol: number;
}

export interface RouteStep {
  readonly do: 'add-route' | 'delete-route';
  readonly ifname: string;
  readonly route: RouteOn;
}

/** Leads back from where these steps have led. A bridge that was made stays, and so do its settings. */
export const wayBack = (steps: readonly Step[]): Step[] => steps.toReversed().flatMap(inverse);

function inverse(step: Step): Step[] {
  switch (step.do) {
    case 'create-bridge':
    case 'set-bridge':
    case 'set-vlans': // they go with the port
    case 'up':
      return [];
    case 'set-mtu':
      return step.was === undefined ? [] : [{ ...step, mtu: step.was, was: step.mtu }];
    case 'join':
      return [{ ...step, do: 'leave' }];
    case 'leave':
      return [{ ...step, do: 'join' }];
    case 'add-address':
      return [{ ...step, do: 'delete-address' }];
    case 'delete-address':
      return [{ ...step, do: 'add-address' }];
    case 'add-route':
      return [{ ...step, do: 'delete-route' }];
    case 'delete-route':
      return [{ ...step, do: 'add-route' }];
    default:
      return step satisfies never;
  }
}

/** A few words for the log. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'create-bridge':
      return `bridge ${step.ifname} made`;
    case 'set-bridge':
      return Object.entries(step.settings)
        .map(([name, value]) => `${name}=${value}`)
        .join(' ');
    case 'set-mtu':
      return `mtu=${step.mtu} on ${step.ifname}`;
    case 'up':
      return `${step.ifname} up`;
    case 'join':
      return `${step.ifname} joined ${step.bridge}`;
    case 'leave':
      return `${step.ifname} left ${step.bridge}`;
    case 'set-vlans':
      return `VLANs of ${step.ifname} set`;
    case 'add-address':
      return `${prefixText(step.prefix)} on ${step.ifname}`;
    case 'delete-address':
      return `${prefixText(step.prefix)} off ${step.ifname}`;
    case 'add-route':
      return `route ${describeRoute({ ...step.route, ifindex: 0 })} on ${step.ifname}`;
    case 'delete-route':
      return `route ${describeRoute({ ...step.route, ifindex: 0 })} off ${step.ifname}`;
    default:
      return step satisfies never;
  }
}
